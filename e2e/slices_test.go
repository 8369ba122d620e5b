//go:build e2e

package e2e

import (
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

// slicesPolicy gives studio-local something for the compositor's own slices, and
// everything else its default.
const slicesPolicy = `
[slices.studio-local]
"user.slice" = { cpu_weight = 400, io_weight = 400 }
"user-1000.slice" = { cpu_weight = 321, io_weight = 123, memory_low = "64M", allowed_cpus = "0" }
"ai.slice" = { cpu_weight = 10, io_weight = 10 }

[studio]
quantum = 128
`

// maintenance is what the machine has to be kept quiet: a timer that waits, one
// that somebody has stopped, and work that is under way.
const maintenance = `
for unit in nix-gc nix-optimise; do
	printf '[Unit]\nDescription=%s\n[Timer]\nOnCalendar=*-12-31\n[Install]\nWantedBy=timers.target\n' $unit > /etc/systemd/system/$unit.timer
	printf '[Unit]\nDescription=%s\n[Service]\nType=oneshot\nExecStart=/usr/bin/sleep infinity\n' $unit > /etc/systemd/system/$unit.service
done
systemctl daemon-reload
systemctl enable -q --now nix-gc.timer
systemctl start --no-block nix-gc.service
`

// onStudioDesktop is a desktop with both.
func onStudioDesktop(t *testing.T) *workstation {
	t.Helper()
	w := onDesktop(t)
	w.sh(maintenance)
	w.WaitUnit(w.ctx, "nix-gc.service", "activating")
	w.sh(
		"sed -i '/^\\[studio\\]/,$d' /etc/dubnium/policy.toml; cat >> /etc/dubnium/policy.toml <<'END'\n" +
			slicesPolicy + "END\nsystemctl reload dubniumd",
	)
	require.Contains(t, w.sh("modectl policy show"), "user-1000.slice")
	return w
}

// weights reads back what the kernel has for each slice that is there. A weight
// that is not shown is the kernel's default: nobody below the same group asked for
// that controller.
func (w *workstation) weights() map[string]string {
	w.t.Helper()
	found := map[string]string{}
	for line := range strings.Lines(w.sh(`cd /sys/fs/cgroup
		for d in user.slice user.slice/user-1000.slice ai.slice; do
			[ -d $d ] || continue
			cpu=$(cat $d/cpu.weight 2>/dev/null || echo 100)
			io=$(sed -n 's/^default //p' $d/io.weight 2>/dev/null || true)
			echo "${d##*/} $cpu ${io:-100}"
		done`)) {
		slice, weights, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[slice] = weights
	}
	require.Contains(w.t, found, "user.slice")
	return found
}

// weighAs wants the weights of before. A slice that was not there then has what its
// own unit file gives it.
func (w *workstation) weighAs(before map[string]string) {
	w.t.Helper()
	want := maps.Clone(before)
	now := w.weights()
	if _, began := now["ai.slice"]; began && want["ai.slice"] == "" {
		want["ai.slice"] = "50 50"
	}
	require.Equal(w.t, want, now)
}

// requireIOWeight: this kernel can be asked.
func (w *workstation) requireIOWeight() {
	w.t.Helper()
	require.NotEmpty(
		w.t, w.sh("ls /sys/fs/cgroup/*/io.weight"), "the kernel is built without io.weight (BLK_CGROUP_IOCOST)",
	)
}

// requireStates wants units in their states by systemd.
func (w *workstation) requireStates(want map[string]string) {
	w.t.Helper()
	got := map[string]string{}
	for unit := range want {
		got[unit] = w.active(unit)
	}
	require.Equal(w.t, want, got)
}

var (
	loud  = map[string]string{"nix-gc.timer": "active", "nix-gc.service": "activating", "nix-optimise.timer": "inactive"}
	quiet = map[string]string{"nix-gc.timer": "inactive", "nix-gc.service": "failed", "nix-optimise.timer": "inactive"}
)

// latencyHolders are the processes that hold the processors' latency, by the kernel's files.
const latencyHolders = `find /proc/[0-9]*/fd -lname /dev/cpu_dma_latency 2>/dev/null || true`

// quantum is what alice's PipeWire forces, by its own tool.
func (w *workstation) quantum(set string) string {
	w.t.Helper()
	out, code := w.AsUser(w.ctx, bed.User, "pw-metadata -n settings 0 clock.force-quantum "+set)
	require.Zero(w.t, code, out)
	return out
}

// TestStudioLocalIsAnOverlay: it leaves the compositor alone, weighs the slices as
// policy says by the kernel's own files, keeps maintenance quiet and the latency low,
// and nothing of that is left behind: not when it ends, and not when its helper is
// killed with SIGKILL.
func TestStudioLocalIsAnOverlay(t *testing.T) {
	w := onStudioDesktop(t)
	compositor, before := w.CompositorPID(w.ctx), w.weights()
	w.requireStates(loud)
	w.quantum("256") // her own

	w.sh("systemctl start mode-controller@studio-local.service") // as an operator would ask
	require.Equal(t, "studio-local", w.current())
	require.Equal(t, compositor, w.CompositorPID(w.ctx))
	w.requireIOWeight()
	studio := w.weights()
	require.Equal(t, "400 400", studio["user.slice"])
	require.Equal(t, "321 123", studio["user-1000.slice"])
	group := w.sh("sed 's/^0:://' /proc/" + strconv.Itoa(compositor) + "/cgroup")
	require.Contains(t, group, "/user.slice/user-1000.slice/", "the compositor is in what was weighed")
	require.Equal(
		t, "67108864 0", w.sh("cd /sys/fs/cgroup/user.slice/user-1000.slice && echo $(cat memory.low cpuset.cpus)"),
	)
	allowed := w.sh("sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/" + strconv.Itoa(compositor) + "/status")
	require.Equal(t, "0", allowed, "it reaches the compositor itself")
	w.requireStates(quiet)
	require.NotEmpty(t, w.sh(latencyHolders))
	require.Contains(t, w.quantum(""), "value:'128'")
	require.Equal(t, "active", w.active("dubnium-quantum@1000.service"))
	require.Contains(t, w.sh("ps -o user= -C pw-metadata"), "alice", "it needs none but her own rights")

	w.part("a killed helper leaves nothing behind", func(w *workstation) {
		w.sh("kill -KILL $(systemctl show -p MainPID --value audio-priority.service)")
		w.WaitUnit(w.ctx, "dubnium-quantum@1000.service", "inactive")
		assert.Empty(w.t, w.sh(latencyHolders))
		assert.Contains(w.t, w.quantum(""), "value:'256'")
		assert.Empty(w.t, w.sh("ls -d /run/dubnium-quantum-* 2>/dev/null || true"))
		w.becomes("degraded-studio-local")
	})
	w.part("and a desktop is what it was", func(w *workstation) {
		w.sh("systemctl start mode-observe.service mode-controller@desktop.service")
		assert.Equal(w.t, "desktop", w.current())
		assert.Equal(w.t, compositor, w.CompositorPID(w.ctx))
		w.weighAs(before)
		w.requireStates(loud)
		w.requireStates(map[string]string{"audio-priority.service": "failed", "studio-local-policy.service": "inactive"}) // killed, as it was
		assert.Equal(
			w.t, "0",
			w.sh("cd /sys/fs/cgroup/user.slice/user-1000.slice && echo $(cat memory.low; cat cpuset.cpus 2>/dev/null || true)"),
		)
	})
}
