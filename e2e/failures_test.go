//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

// standin adds options to those that the stand-in for vLLM starts with.
func (w *workstation) standin(options string) {
	w.t.Helper()
	w.sh("echo 'VLLM_STANDIN=" + options + "' > /run/vllm-standin.env")
}

// override replaces how vllm.service starts.
func (w *workstation) override(exec string) {
	w.t.Helper()
	w.PutBytes(
		w.ctx, []byte("[Service]\nExecStart=\nExecStart="+exec+"\n"), "/etc/systemd/system/vllm.service.d/test.conf", 0o644,
	)
	w.sh("systemctl daemon-reload")
}

// TestComputeWithoutVLLMIsNotCompute: vLLM that never gets healthy, that ends at
// once, and that cannot even be started.
func TestComputeWithoutVLLMIsNotCompute(t *testing.T) {
	w := onDesktop(t)
	w.sh("sed -i 's/^start_timeout = .*/start_timeout = \"5s\"/' /etc/dubnium/policy.toml && systemctl reload dubniumd")
	faults := map[string]func(){"never healthy": func() { w.standin("--never-healthy") }}
	if soaking {
		faults["ends at once"] = func() { w.override("/bin/false") }
		faults["is not installed"] = func() { w.override("/usr/local/bin/no-such-vllm") }
	}
	for name, breaks := range faults {
		t.Run(name, func(t *testing.T) {
			w := w.within(t)
			breaks()
			watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1'")
			out, code := w.modectl("request compute")
			assert.Equal(t, 53, code, out)
			assert.Contains(t, out, "vllm")
			w.requireDesktop()
			assert.Equal(t, "rolled-back", w.last().Result)
			w.becomes("desktop") // once the audio stack of the person who is back runs
			states := []any{}
			w.Await(w.ctx, watch, func(s bed.Signal) bool {
				if s.Member == "StateChanged" {
					states = append(states, s.Args[1])
				}
				return s.Member == "StateChanged" && s.Args[1] == "desktop"
			})
			assert.NotContains(t, states, "compute")
		})
	}
}

// TestKilledInTheMiddle: dubniumd is killed as some step begins, on the way to compute
// and back. What claims a mode afterwards is true by the machine's own tools, and a
// request recovers it.
func TestKilledInTheMiddle(t *testing.T) {
	w := onDesktop(t)
	random := rand.New(rand.NewPCG(seeded(t), 0))
	kills := 5
	if soaking {
		kills = 100
	}
	for n := range kills {
		w.patiently()
		if n == kills/2 {
			w.seated()
			w.reach("compute") // the way back has its own steps
		}
		if t.Failed() {
			return
		}
		to := "compute"
		if w.current() == "compute" {
			to = "desktop"
		}
		t.Run(fmt.Sprintf("%d to %s", n, to), func(t *testing.T) { w.within(t).killed(to, random) })
	}
	w.reach("desktop")
	w.requireDesktop()
}

// seated waits until alice is back where the desktop is: it is there before she is, and
// somebody who has just logged in is not judged by what was seen before.
func (w *workstation) seated() {
	w.t.Helper()
	if w.active("desktop.target") == "active" {
		w.WaitCompositor(w.ctx)
		w.audioKnown()
	}
}

// killed asks for a mode and kills dubniumd as one of the plan's steps begins.
func (w *workstation) killed(to string, random *rand.Rand) {
	w.t.Helper()
	if to == "compute" {
		w.seated()
	}
	steps := w.dryRun(to, 0).Steps
	step := steps[random.IntN(len(steps))].ID
	pid := w.sh("systemctl show -p MainPID --value dubniumd.service")
	watch := w.Watch(w.ctx, "type='signal',interface='org.dubnium.Mode1',member='TransitionStep'")
	request := w.Start(w.ctx, "modectl request "+to)
	w.Await(w.ctx, watch, func(s bed.Signal) bool { return s.Args[3] == step && s.Args[4] == "doing" })
	w.sh("kill -KILL " + pid)
	exit, err := request.Wait(w.ctx)
	require.NoError(w.t, err)
	assert.NotZero(w.t, exit, "nobody is told that it worked: %s", request.Output().Both)
	w.WaitFor(w.ctx, "dubniumd to be back and done",
		`[ "$(systemctl show -p MainPID --value dubniumd)" != `+pid+` ] && modectl status >/dev/null && [ ! -e /var/lib/mode-controller/transition.json ]`)
	last := w.last()
	w.t.Logf("killed in %s: %s, ended in %s: %s", step, last.Result, last.Final, last.Cause)
	assert.Contains(w.t, []string{"interrupted", "rollback-failed"}, last.Result)
	w.requireTruth()
}

// requireTruth holds whatever the daemon claims against the machine's own tools.
func (w *workstation) requireTruth() {
	w.t.Helper()
	switch state := w.sh("modectl current --refresh"); state {
	case "compute":
		w.requireCompute()
	case "desktop":
		require.Equal(w.t, "active", w.active("desktop.target"))
		require.Equal(w.t, "inactive", w.active("compute.target"))
		require.NotEqual(w.t, "active", w.active("vllm.service"))
		require.Equal(w.t, "active", w.active("greetd.service"))
	default:
		require.False(w.t, strings.HasPrefix(state, "studio"), state)
		w.t.Logf("the state is %s", state)
		w.reach("desktop")
		require.Equal(w.t, "active", w.active("desktop.target"))
		require.Equal(w.t, "active", w.active("greetd.service"))
	}
}

func TestTheUnitsAreSound(t *testing.T) {
	w := onDesktop(t)
	out, code := w.Sh(w.ctx, `cd /usr/lib/systemd/system && systemd-analyze verify --man=no dubniumd.service dubnium-probe-*.socket \
		desktop.target compute.target audio-priority.service dubnium-quantum@1000.service dubnium-session-end@1000.service studio-local-policy.service mode-observe.service mode-controller@desktop.service`)
	assert.Zero(t, code, out)
	assert.Empty(t, strings.TrimSpace(out))
	exposure := w.sh(`systemd-analyze security --no-pager dubniumd.service | sed -n 's/.*exposure level for dubniumd.service: \([0-9.]*\).*/\1/p'`)
	t.Logf("exposure of dubniumd.service: %s", exposure)
	assert.Regexp(t, `^[01]\.`, exposure)
}
