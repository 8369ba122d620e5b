//go:build faultpoints

package daemon

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// scenario is a host with a policy, and who makes the requests.
type scenario struct {
	name    string
	change  func(*policy.Policy)
	host    func(*fakeHost)
	request status.Request
	cancel  bool // the request is canceled once it is announced
	// full: every plan is tried, not only the six between healthy modes.
	full bool
	// clean is what each mode leaves on the host.
	clean map[policy.Mode]effects
}

func scenarios() []*scenario {
	asAlice := status.Request{Origin: status.OriginOperator, By: "uid 1000 (alice)", UID: 1000, LeaveCompute: true}
	asRoot := status.Request{Origin: status.OriginOperator, By: "uid 0 (root)", EndOthers: true}
	load := func(units ...string) func(*fakeHost) {
		return func(h *fakeHost) {
			for _, unit := range units {
				u := h.now.Systemd.Units[unit]
				u.LoadState = "loaded"
				h.now.Systemd.Units[unit] = u
			}
		}
	}
	return []*scenario{
		{name: "as it comes", request: asAlice, full: true},
		{name: "without vLLM", request: asAlice, change: func(p *policy.Policy) { p.VLLM.Enabled = false }},
		{name: "contracts", request: asAlice, full: true, change: func(p *policy.Policy) {
			fast(p)
			d, c := &p.Modes.Desktop, &p.Modes.Compute
			d.Required, d.Forbidden, d.StopForbidden = []string{"cups.service"}, []string{"batch.timer"}, true
			p.Modes.StudioLocal.Required = []string{"jack.service"}
			c.Required, c.Forbidden, c.StopForbidden = []string{"batch.timer"}, []string{"cups.service"}, true
		}},
		{
			name: "prepared and announced", request: asRoot,
			host: load("mode-prepare-compute.service", "mode-prepare-desktop.service", "mode-prepare-studio-local.service"),
		},
		{
			name: "canceled", request: asRoot, cancel: true,
			host: load("mode-prepare-compute.service", "mode-prepare-desktop.service", "mode-prepare-studio-local.service"),
		},
		{name: "slices everywhere", request: asAlice, change: func(p *policy.Policy) {
			p.Slices.Desktop = map[string]policy.Slice{"user.slice": {CPUWeight: 200, MemoryLow: "1G"}}
			p.Slices.Compute["user.slice"] = policy.Slice{AllowedCPUs: "0-1"}
			p.Slices.StudioLocal["batch.slice"] = policy.Slice{MemoryHigh: "2G"}
		}},
		{name: "GPUs named", request: asAlice, change: func(p *policy.Policy) {
			p.GPU.Display, p.GPU.AI = []string{displayGPU}, []string{displayGPU}
		}, host: func(h *fakeHost) { h.now.Processes.GPUs[0].Driver = "nvidia" }},
		{name: "studio serves nobody's audio", request: asAlice, change: func(p *policy.Policy) {
			p.Audio.Required, p.Studio.Quiesce, p.Modes.Desktop.VLLMProfile = false, nil, policy.ProfileDefault
		}},
	}
}

// plan is one transition under a scenario: the last of a route, or what the
// daemon does by itself at boot.
type plan struct {
	*scenario
	name string
	// route leads there; the transition is to its last mode.
	route []policy.Mode
	// degrade degrades the host before the transition.
	degrade func(*fakeHost)
	// boot: the machine comes up without a mode, and the transition is the boot rule's.
	boot bool
}

func (p plan) to() policy.Mode { return p.route[len(p.route)-1] }

func (w *scenario) plans() []plan {
	var all []plan
	add := func(name string, degrade func(*fakeHost), route ...policy.Mode) {
		all = append(all, plan{scenario: w, name: name, degrade: degrade, route: route})
	}
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		add(name, nil, routes[name]...)
	}
	if !w.full {
		return all
	}
	all = append(all, plan{scenario: w, name: "boot", route: []policy.Mode{"desktop"}, boot: true})
	degrade := func(change func(*fakeHost, string), units ...string) func(*fakeHost) {
		return func(h *fakeHost) {
			for _, unit := range units {
				if _, there := h.now.Systemd.Units[unit]; there {
					change(h, unit)
				}
			}
		}
	}
	quiet := degrade((*fakeHost).stop, "audio-priority.service")
	loud := degrade((*fakeHost).start, quietTimer)
	degradedBy := map[policy.Mode]func(*fakeHost){
		"desktop":      degrade((*fakeHost).start, "audio-priority.service", "batch.timer"),
		"studio-local": func(h *fakeHost) { quiet(h); loud(h) },
		"compute":      degrade((*fakeHost).stop, "vllm.service", "vllm-fast.service"),
	}
	for _, from := range policy.Modes() {
		for _, to := range policy.Modes() {
			add(fmt.Sprintf("degraded %s to %s", from, to), degradedBy[from], from, to)
		}
	}
	for _, to := range policy.Modes() {
		add(fmt.Sprintf("no mode to %s", to), func(h *fakeHost) { h.stop("desktop.target") }, "desktop", to)
	}
	return all
}

// policy has short timeouts: what hangs is given up in seconds.
func (w *scenario) policy(dir string) policy.Policy {
	p := testPolicy(dir)
	seconds := policy.Duration(time.Second)
	p.Timeouts.Unit, p.Timeouts.Isolate = 4*seconds, 4*seconds
	p.Timeouts.GPURelease, p.Timeouts.Verify = 3*seconds, 3*seconds
	p.VLLM.StartTimeout, p.VLLM.DrainTimeout = 4*seconds, 4*seconds
	p.Sessions.TerminateTimeout, p.Sessions.KillTimeout, p.Announce.Grace = 2*seconds, 2*seconds, 2*seconds
	p.Studio.Quiesce = []string{quietTimer, "nix-gc.timer"}
	p.Slices.Desktop, p.Slices.Compute = map[string]policy.Slice{}, map[string]policy.Slice{
		"ai.slice": {CPUWeight: 800, IOWeight: 800},
	}
	p.Slices.StudioLocal = map[string]policy.Slice{
		"user.slice": {CPUWeight: 400}, "ai.slice": {CPUWeight: 10, IOWeight: 10},
	}
	if w.change != nil {
		w.change(&p)
	}
	return p
}

// newHost is a desktop that has just booted.
func (w *scenario) newHost() *fakeHost {
	h := newFakeHost(w.policy("/"))
	if w.host != nil {
		w.host(h)
	}
	if w.policy("/").VLLMUnit(policy.Desktop) != "" {
		h.start("vllm.service")
	}
	for _, unit := range w.policy("/").Modes.Desktop.Required {
		h.start(unit)
	}
	return h
}

// start runs a daemon of the scenario.
func (w *scenario) start(t *testing.T, h *fakeHost, dir, boot string) *harness {
	r := startHarnessWith(t, h, w.policy(dir), boot)
	r.dir = dir
	return r
}

// concerning leaves out the units of other modes' contracts: a mode neither
// requires nor forbids them.
func (w *scenario) concerning(mode policy.Mode, keys []string) []string {
	p := w.policy("/")
	own := append(slices.Clone(p.Contract(mode).Required), p.Contract(mode).Forbidden...)
	return slices.DeleteFunc(keys, func(key string) bool {
		return slices.Contains(p.ContractUnits(), key) && !slices.Contains(own, key)
	})
}
