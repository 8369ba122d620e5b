package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/fakenvml"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/gpu"
	"github.com/dubnium/dubnium/policy"
)

// asProbe makes the test's own binary the probe, as systemd starts it.
const asProbe = "DUBNIUM_TEST_AS_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(asProbe) != "" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	code := m.Run()
	if dir, err := whole(); err == nil {
		os.RemoveAll(filepath.Dir(dir))
	}
	os.Exit(code)
}

// whole is the stand-in with every function.
var whole = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dubnium-nvml")
	if err != nil {
		return "", err
	}
	return fakenvml.Build(context.Background(), dir)
})

// host is a probe that systemd started for a socket, on a host with the stand-in.
type host struct {
	t      *testing.T
	dir    string
	source *gpu.Source
	exited chan error
	said   *bytes.Buffer
}

// start runs the probe. Of the flags the last one counts.
func start(t *testing.T, says string, flags ...string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), exited: make(chan error, 1), said: &bytes.Buffer{}}
	library, err := whole()
	require.NoError(t, err)
	h.says(says)
	p := policy.Default()
	p.Paths.Probes = h.dir
	h.source = gpu.New(p)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(h.dir, gpu.Socket), Net: "unix"})
	require.NoError(t, err)
	passed, err := listener.File()
	require.NoError(t, err)
	defer passed.Close()
	t.Cleanup(func() { listener.Close() })

	cmd := exec.Command("/proc/self/exe", append([]string{
		"--library", library, "--lock", h.path("lock"), "--proc", h.path("proc"),
	}, flags...)...)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{passed}, h.said
	cmd.Env = append(os.Environ(), asProbe+"=1", "LISTEN_FDS=1", fakenvml.Variable+"="+h.path("says"))
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		h.exited <- cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// says changes what the driver says from the next look on.
func (h *host) says(text string) {
	h.t.Helper()
	require.NoError(h.t, os.WriteFile(h.path("says"), []byte(text), 0o600))
}

// withKernel loads the kernel's half of the driver.
func (h *host) withKernel() {
	h.t.Helper()
	require.NoError(h.t, os.MkdirAll(h.path("proc/driver/nvidia"), 0o755))
	require.NoError(h.t, os.WriteFile(h.path("proc/driver/nvidia/version"), []byte("NVRM version: 615.71\n"), 0o600))
}

func (h *host) look() observer.NVML {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 20*time.Second)
	defer cancel()
	var s observer.Snapshot
	h.source.Read(ctx).Into(&s)
	return s.GPU
}

const (
	display = "card 00000000:01:00.0 GPU-one 25769803776 1073741824\n"
	second  = "card 00010000:0A:00.0 GPU-two 25769803776 0\n"
)

func TestCards(t *testing.T) {
	h := start(t, display+"graphics 900 524288000\ncompute 4242 -1\n"+second)
	got := h.look()
	require.True(t, got.Known(), got.Reason)
	require.True(t, got.Driver)
	total, used, part := 25769803776.0, 1073741824.0, 524288000.0
	require.Equal(t, observer.Card{
		PCI: "0000:01:00.0", UUID: "GPU-one", Name: "NVIDIA Stand-In",
		MemoryTotal: observer.Measure{Value: &total}, MemoryUsed: observer.Measure{Value: &used},
		Graphics: observer.CardProcesses{
			Processes: []observer.CardProcess{{PID: 900, Memory: observer.Measure{Value: &part}}},
		},
		Compute: observer.CardProcesses{Processes: []observer.CardProcess{{
			PID: 4242, Memory: observer.Measure{Reason: "the driver does not report it"},
		}}},
	}, got.Cards[0])
	require.Equal(t, "10000:0a:00.0", got.Cards[1].PCI)
	require.Empty(t, got.Cards[1].Compute.Processes)

	// The same probe looks again, and afresh.
	h.says(display)
	got = h.look()
	require.True(t, got.Known(), got.Reason)
	require.Len(t, got.Cards, 1)
	require.Empty(t, got.Cards[0].Graphics.Processes)
}

func TestProcessIdentity(t *testing.T) {
	h := start(t, fmt.Sprintf("%scompute %d 1024\ncompute 4194304 1024\n", display, os.Getpid()), "--proc", "/proc")
	got := h.look()
	require.True(t, got.Known(), got.Reason)
	list := got.Cards[0].Compute.Processes
	require.EqualValues(t, os.Getuid(), *list[0].UID)
	require.NotEmpty(t, list[0].Command)
	require.Nil(t, list[1].UID, "no process can have that pid")
}

func TestManyProcesses(t *testing.T) {
	var says strings.Builder
	says.WriteString(display)
	for i := range 400 {
		fmt.Fprintf(&says, "compute %d 1\n", i+1)
	}
	got := start(t, says.String()).look()
	require.True(t, got.Known(), got.Reason)
	require.Len(t, got.Cards[0].Compute.Processes, 400)
}

func TestCardUnknownValues(t *testing.T) {
	h := start(t, display+"fail nvmlDeviceGetMemoryInfo_v2 3\n"+second+"fail nvmlDeviceGetGraphicsRunningProcesses_v3 4\n")
	got := h.look()
	require.True(t, got.Known(), got.Reason)
	require.Equal(t, observer.Measure{Reason: "Not Supported (NVML error 3)"}, got.Cards[0].MemoryUsed)
	require.Empty(t, got.Cards[0].Compute.Reason)
	require.Equal(t, "Insufficient Permissions (NVML error 4)", got.Cards[1].Graphics.Reason)
	require.NotNil(t, got.Cards[1].MemoryUsed.Value)
}

func TestOneLostCard(t *testing.T) {
	for how, want := range map[string]observer.Card{
		"lost":     {PCI: "0000:01:00.0", Reason: "GPU is lost (NVML error 15)"},
		"unlisted": {Reason: "card 0 cannot be opened: GPU is lost (NVML error 15)"},
		"fail nvmlDeviceGetComputeRunningProcesses_v3 15": {
			PCI: "0000:01:00.0", UUID: "GPU-one", Name: "NVIDIA Stand-In", Reason: "GPU is lost (NVML error 15)",
		},
	} {
		t.Run(how, func(t *testing.T) {
			got := start(t, display+how+"\n"+second).look()
			require.True(t, got.Known(), got.Reason)
			want.MemoryTotal, want.MemoryUsed = got.Cards[0].MemoryTotal, got.Cards[0].MemoryUsed
			require.Nil(t, want.MemoryUsed.Value)
			require.Equal(t, want, got.Cards[0])
			require.Empty(t, got.Cards[1].Reason)
			require.NotNil(t, got.Cards[1].MemoryUsed.Value)
		})
	}
}

func TestHostWithoutDriver(t *testing.T) {
	missing := []string{"--library", "libnvidia-ml-that-is-not-there.so.1"}
	for name, h := range map[string]*host{
		"no library":                        start(t, "", missing...),
		"no file":                           start(t, "", "--library", filepath.Join(t.TempDir(), fakenvml.Name)),
		"a library without a kernel's half": start(t, "init 9\n"),
	} {
		got := h.look()
		require.True(t, got.Known(), "%s: %s", name, got.Reason)
		require.False(t, got.Driver, name)
		require.Empty(t, got.Cards)
	}
}

func TestDriverFails(t *testing.T) {
	broken := filepath.Join(t.TempDir(), fakenvml.Name)
	require.NoError(t, os.WriteFile(broken, []byte("no ELF"), 0o600))
	cases := map[string]struct {
		says   string
		flags  []string
		kernel bool
		want   string
	}{
		"a kernel driver without a library": {
			"",
			[]string{"--library", "libnvidia-ml-that-is-not-there.so.1"},
			true,
			"the kernel has the NVIDIA driver, but its library was not found",
		},
		"a kernel driver that NVML denies": {"init 9\n", nil, true, "cannot start NVML: Driver Not Loaded"},
		"another version": {
			"init 18\n", nil, true, "cannot start NVML: Driver/library version mismatch (NVML error 18)",
		},
		"an error nobody knows":  {"init 999\n", nil, false, "cannot start NVML: Unknown Error"},
		"a library that is none": {"", []string{"--library", broken}, false, "its library cannot be opened"},
		"a lock that cannot be":  {display, []string{"--lock", "/proc/none/lock"}, false, "cannot lock NVML"},
		"a /proc that is none": {
			display, []string{"--proc", "/dev/null"}, false, "cannot find out whether there is an NVIDIA driver",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := start(t, c.says, c.flags...)
			if c.kernel {
				h.withKernel()
			}
			got := h.look()
			require.False(t, got.Known())
			require.Contains(t, got.Reason, c.want)
			require.Contains(t, h.look().Reason, c.want, "the probe has outlived it")
		})
	}
}

// A function that the library lacks would end the process if it were called.
func TestMissingFunction(t *testing.T) {
	for symbol, check := range map[string]func(*testing.T, observer.NVML){
		"nvmlInit_v2":                   lacks("nvmlInit_v2"),
		"nvmlErrorString":               lacks("nvmlErrorString"),
		"nvmlShutdown":                  lacks("nvmlShutdown"),
		"nvmlDeviceGetCount_v2":         lacks("nvmlDeviceGetCount_v2"),
		"nvmlDeviceGetHandleByIndex_v2": lacks("nvmlDeviceGetHandleByIndex_v2"),
		"nvmlDeviceGetPciInfo_v3": func(t *testing.T, got observer.NVML) {
			require.Contains(
				t, got.Cards[0].Reason, "the address of card 0 cannot be read: the driver's library lacks nvmlDeviceGetPciInfo_v3",
			)
		},
		"nvmlDeviceGetUUID": func(t *testing.T, got observer.NVML) { require.Empty(t, got.Cards[0].UUID) },
		"nvmlDeviceGetName": func(t *testing.T, got observer.NVML) { require.Empty(t, got.Cards[0].Name) },
		"nvmlDeviceGetMemoryInfo_v2": func(t *testing.T, got observer.NVML) {
			require.Equal(t, "the driver's library lacks nvmlDeviceGetMemoryInfo_v2", got.Cards[0].MemoryUsed.Reason)
		},
		"nvmlDeviceGetComputeRunningProcesses_v3": func(t *testing.T, got observer.NVML) {
			require.Contains(t, got.Cards[0].Compute.Reason, "lacks nvmlDeviceGetComputeRunningProcesses_v3")
		},
		"nvmlDeviceGetGraphicsRunningProcesses_v3": func(t *testing.T, got observer.NVML) {
			require.Contains(t, got.Cards[0].Graphics.Reason, "lacks nvmlDeviceGetGraphicsRunningProcesses_v3")
		},
	} {
		t.Run(symbol, func(t *testing.T) {
			library, err := fakenvml.Build(t.Context(), t.TempDir(), symbol)
			require.NoError(t, err)
			check(t, start(t, display, "--library", library).look())
		})
	}
}

func lacks(symbol string) func(*testing.T, observer.NVML) {
	return func(t *testing.T, got observer.NVML) {
		require.Contains(t, got.Reason, "cannot use NVML: the driver's library lacks "+symbol)
	}
}

func TestDriverHangs(t *testing.T) {
	for _, function := range []string{"nvmlInit_v2", "nvmlDeviceGetMemoryInfo_v2", "nvmlShutdown"} {
		t.Run(function, func(t *testing.T) {
			h := start(t, display+"hang "+function+"\n", "--limit", "200ms")
			got := h.look()
			require.False(t, got.Known())
			require.Contains(t, got.Reason, "closed the connection without an answer")
			require.ErrorContains(t, <-h.exited, "exit status 1", "and the next connection starts another")
			require.Contains(t, h.said.String(), "a read took more than 200ms")
		})
	}
}

func TestNVMLLock(t *testing.T) {
	h := start(t, display)
	require.True(t, h.look().Known())
	other, err := os.OpenFile(h.path("lock"), os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(other.Fd()), unix.LOCK_EX|unix.LOCK_NB), "nobody holds it between looks")
	require.Contains(t, h.look().Reason, "NVML is busy")
	require.NoError(t, other.Close())
	require.True(t, h.look().Known())
}

func TestMisuseWritesNoDocument(t *testing.T) {
	for _, args := range [][]string{{"--nope"}, {"now"}, {"--limit", "soon"}} {
		var out, complaints bytes.Buffer
		require.Equal(t, 30, run(t.Context(), args, &out, &complaints))
		require.Empty(t, out.String())
		require.NotEmpty(t, complaints.String())
	}
}

func TestWithoutSocket(t *testing.T) {
	var out, complaints bytes.Buffer
	code := run(t.Context(), []string{
		"--library", "libnvidia-ml-that-is-not-there.so.1", "--proc", t.TempDir(),
		"--lock", filepath.Join(t.TempDir(), "lock"),
	}, &out, &complaints)
	require.Zero(t, code, complaints.String())
	require.JSONEq(t, `{"driver":false,"cards":[]}`, out.String())
}
