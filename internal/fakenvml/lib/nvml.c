/* A stand-in for libnvidia-ml.so.1 under the real go-nvml. It says what the file
 * named by DUBNIUM_FAKE_NVML (default /run/dubnium-fake-nvml) says, read afresh at each nvmlInit_v2:
 *
 *   init CODE                       nvmlInit_v2 returns CODE
 *   hang FUNCTION                   that function never returns
 *   card PCI UUID TOTAL USED        one more card; sizes in bytes
 *   lost                            the last card: every question about it is answered GPU_IS_LOST
 *   unlisted                        the last card: its handle is answered GPU_IS_LOST
 *   fail FUNCTION CODE              the last card: that function returns CODE
 *   compute PID USED                the last card has that process; USED may be -1
 *   graphics PID USED
 *
 * A symbol is left out with -DWITHOUT_nvmlName. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, TOO_SMALL = 7, LOST = 15, VERSION = 25 };
enum { CARDS = 8, PROCESSES = 512 };

struct process { unsigned pid; long long used; };
struct card {
	unsigned domain, bus, device;
	char uuid[80];
	unsigned long long total, used;
	int lost, unlisted;
	char fails[64];
	int code;
	struct process list[2][PROCESSES];
	unsigned count[2];
};

static struct card cards[CARDS];
static unsigned count;
static int init_code, initialized;
static char hangs[64];

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct info { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };

static void load(void)
{
	const char *path = getenv("DUBNIUM_FAKE_NVML");
	FILE *f = fopen(path && *path ? path : "/run/dubnium-fake-nvml", "r");
	char line[256], word[64];
	memset(cards, 0, sizeof cards);
	count = 0, init_code = 0, hangs[0] = 0;
	while (f && fgets(line, sizeof line, f)) {
		struct card *c = count ? &cards[count - 1] : &cards[0];
		struct process p;
		sscanf(line, "init %d", &init_code);
		sscanf(line, "hang %63s", hangs);
		if (!strncmp(line, "card ", 5) && count < CARDS) {
			c = &cards[count++];
			sscanf(line, "card %x:%x:%x.0 %79s %llu %llu", &c->domain, &c->bus, &c->device, c->uuid, &c->total, &c->used);
		}
		if (!strcmp(line, "lost\n"))
			c->lost = 1;
		if (!strcmp(line, "unlisted\n"))
			c->unlisted = 1;
		sscanf(line, "fail %63s %d", c->fails, &c->code);
		if (sscanf(line, "%63s %u %lld", word, &p.pid, &p.used) == 3) {
			int kind = !strcmp(word, "compute") ? 0 : !strcmp(word, "graphics") ? 1 : -1;
			if (kind >= 0 && c->count[kind] < PROCESSES)
				c->list[kind][c->count[kind]++] = p;
		}
	}
	if (f)
		fclose(f);
}

/* answer is what every function begins with. */
static int answer(const char *function, const struct card *c)
{
	while (!strcmp(hangs, function))
		pause();
	if (!initialized)
		return UNINITIALIZED;
	if (c && c->lost)
		return LOST;
	return c && !strcmp(c->fails, function) ? c->code : OK;
}

#define ANSWER(c) do { int code = answer(__func__, c); if (code) return code; } while (0)

#ifndef WITHOUT_nvmlInit_v2
int nvmlInit_v2(void)
{
	load();
	initialized = 1;
	ANSWER(NULL);
	initialized = init_code == 0;
	return init_code;
}
#endif

#ifndef WITHOUT_nvmlShutdown
int nvmlShutdown(void) { ANSWER(NULL); initialized = 0; return OK; }
#endif

#ifndef WITHOUT_nvmlErrorString
const char *nvmlErrorString(int code)
{
	switch (code) {
	case 3: return "Not Supported";
	case 4: return "Insufficient Permissions";
	case 9: return "Driver Not Loaded";
	case LOST: return "GPU is lost";
	case 18: return "Driver/library version mismatch";
	}
	return "Unknown Error";
}
#endif

#ifndef WITHOUT_nvmlDeviceGetCount_v2
int nvmlDeviceGetCount_v2(unsigned *n) { ANSWER(NULL); *n = count; return OK; }
#endif

#ifndef WITHOUT_nvmlDeviceGetHandleByIndex_v2
int nvmlDeviceGetHandleByIndex_v2(unsigned i, struct card **c)
{
	ANSWER(NULL);
	if (i >= count)
		return INVALID;
	*c = &cards[i];
	return cards[i].unlisted ? LOST : OK;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetUUID
int nvmlDeviceGetUUID(struct card *c, char *uuid, unsigned n) { ANSWER(c); snprintf(uuid, n, "%s", c->uuid); return OK; }
#endif

#ifndef WITHOUT_nvmlDeviceGetName
int nvmlDeviceGetName(struct card *c, char *name, unsigned n) { ANSWER(c); snprintf(name, n, "NVIDIA Stand-In"); return OK; }
#endif

#ifndef WITHOUT_nvmlDeviceGetPciInfo_v3
int nvmlDeviceGetPciInfo_v3(struct card *c, struct pci *p)
{
	/* The address of a lost card is still known. */
	int code = answer(__func__, NULL);
	if (code)
		return code;
	if (!strcmp(c->fails, __func__))
		return c->code;
	memset(p, 0, sizeof *p);
	p->domain = c->domain, p->bus = c->bus, p->device = c->device;
	snprintf(p->bus_id, sizeof p->bus_id, "%08X:%02X:%02X.0", c->domain, c->bus, c->device);
	return OK;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetMemoryInfo_v2
int nvmlDeviceGetMemoryInfo_v2(struct card *c, struct memory *m)
{
	ANSWER(c);
	if (m->version != 0x2000028)
		return VERSION;
	m->total = c->total, m->used = c->used, m->reserved = 300 << 20, m->free = c->total - c->used;
	return OK;
}
#endif

#if !defined(WITHOUT_nvmlDeviceGetComputeRunningProcesses_v3) || !defined(WITHOUT_nvmlDeviceGetGraphicsRunningProcesses_v3)
static int running(struct card *c, int kind, unsigned *n, struct info *infos)
{
	unsigned room = *n;
	*n = c->count[kind];
	if (room < c->count[kind])
		return TOO_SMALL;
	for (unsigned i = 0; i < *n; i++) {
		infos[i].pid = c->list[kind][i].pid;
		infos[i].used = (unsigned long long)c->list[kind][i].used;
		infos[i].gpu_instance = infos[i].compute_instance = 0xffffffff;
	}
	return OK;
}
#endif

#ifndef WITHOUT_nvmlDeviceGetComputeRunningProcesses_v3
int nvmlDeviceGetComputeRunningProcesses_v3(struct card *c, unsigned *n, struct info *infos) { ANSWER(c); return running(c, 0, n, infos); }
#endif

#ifndef WITHOUT_nvmlDeviceGetGraphicsRunningProcesses_v3
int nvmlDeviceGetGraphicsRunningProcesses_v3(struct card *c, unsigned *n, struct info *infos) { ANSWER(c); return running(c, 1, n, infos); }
#endif
