//go:build faultpoints

package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/fault"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// TestCrashMatrix: for every plan and every fault point that the plan meets, the
// daemon dies there, or what is done there fails, or hangs. A machine on which the
// daemon died is started again, on the same boot and on another, and dies again
// while it recovers. What is then on the host, on disk and published is held against
// an independent reading of the host (judge).
//
// To die is to be cut off from the world: the host and the disk are copied at the
// point, the next daemon gets the copies, and whatever the first one does afterwards
// is done to a world that is thrown away.
func TestCrashMatrix(t *testing.T) {
	m := &matrix{base: t.TempDir(), kinds: map[string]int{}, told: map[string][]string{}}
	t.Run("plans", func(t *testing.T) {
		for _, w := range circumstances() {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				w.clean = m.cleanModes(t, w)
				for _, p := range w.plans() {
					t.Run(p.name, func(t *testing.T) {
						t.Parallel()
						m.try(t, p)
					})
				}
			})
		}
	})
	fmt.Printf("%d cases, %d violations\n", m.cases, m.violations)
	t.Logf("%v", m.kinds)
	m.tell(t)
	require.GreaterOrEqual(t, m.cases, 2000, "what this test is for")
}

// matrix counts.
type matrix struct {
	base string

	mu                sync.Mutex
	cases, violations int
	kinds             map[string]int
	told              map[string][]string // of each kind of violation, all of them
	dirs              int
}

func (m *matrix) count(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cases++
	m.kinds[kind]++
}

// violate notes a violation. It does not end the case, or the plan.
func (m *matrix) violate(where, kind, format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.violations++
	m.told[kind] = append(m.told[kind], where+": "+fmt.Sprintf(format, args...))
}

// tell prints the first violations of each kind: one fault in the engine shows in
// hundreds of cases.
func (m *matrix) tell(t *testing.T) {
	for kind, all := range m.told {
		for _, text := range all[:min(len(all), 3)] {
			t.Errorf("%s (one of %d): %s", kind, len(all), text)
		}
	}
}

func (m *matrix) dir(t *testing.T) string {
	m.mu.Lock()
	m.dirs++
	dir := filepath.Join(m.base, strconv.Itoa(m.dirs))
	m.mu.Unlock()
	for _, d := range []string{"run", "state"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	return dir
}

// circumstance is what a host and its policy may be like.
type circumstance struct {
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

func circumstances() []*circumstance {
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
	return []*circumstance{
		{name: "as it comes", request: asAlice, full: true},
		{name: "without vLLM", request: asAlice, change: func(p *policy.Policy) { p.VLLM.Enabled = false }},
		{name: "contracts", request: asAlice, full: true, change: func(p *policy.Policy) {
			fast(p)
			p.Modes.Desktop.Required, p.Modes.Desktop.Forbidden, p.Modes.Desktop.StopForbidden = []string{"cups.service"}, []string{"batch.timer"}, true
			p.Modes.StudioLocal.Required = []string{"jack.service"}
			p.Modes.Compute.Required, p.Modes.Compute.Forbidden, p.Modes.Compute.StopForbidden = []string{"batch.timer"}, []string{"cups.service"}, true
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

// plan is one transition under a circumstance: the last of a route, or what the
// daemon does by itself at boot.
type plan struct {
	*circumstance
	name string
	// route leads there; the transition is to its last mode.
	route []policy.Mode
	// spoil degrades the host before the transition.
	spoil func(*fakeHost)
	// boot: the machine comes up without a mode, and the transition is the boot rule's.
	boot bool
}

func (p plan) to() policy.Mode { return p.route[len(p.route)-1] }

func (w *circumstance) plans() []plan {
	var all []plan
	add := func(name string, spoil func(*fakeHost), route ...policy.Mode) {
		all = append(all, plan{circumstance: w, name: name, spoil: spoil, route: route})
	}
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		add(name, nil, routes[name]...)
	}
	if !w.full {
		return all
	}
	all = append(all, plan{circumstance: w, name: "boot", route: []policy.Mode{"desktop"}, boot: true})
	spoil := func(change func(*fakeHost, string), units ...string) func(*fakeHost) {
		return func(h *fakeHost) {
			for _, unit := range units {
				if _, there := h.now.Systemd.Units[unit]; there {
					change(h, unit)
				}
			}
		}
	}
	quiet := spoil((*fakeHost).stop, "audio-priority.service")
	loud := spoil((*fakeHost).start, quietTimer)
	spoilt := map[policy.Mode]func(*fakeHost){
		"desktop":      spoil((*fakeHost).start, "audio-priority.service", "batch.timer"),
		"studio-local": func(h *fakeHost) { quiet(h); loud(h) },
		"compute":      spoil((*fakeHost).stop, "vllm.service", "vllm-fast.service"),
	}
	for _, from := range policy.Modes() {
		for _, to := range policy.Modes() {
			add(fmt.Sprintf("degraded %s to %s", from, to), spoilt[from], from, to)
		}
	}
	for _, to := range policy.Modes() {
		add(fmt.Sprintf("no mode to %s", to), func(h *fakeHost) { h.stop("desktop.target") }, "desktop", to)
	}
	return all
}

// policy is short of patience: what hangs is given up in seconds.
func (w *circumstance) policy(dir string) policy.Policy {
	p := testPolicy(dir)
	seconds := policy.Duration(time.Second)
	p.Timeouts.Unit, p.Timeouts.Isolate, p.Timeouts.GPURelease, p.Timeouts.Verify = 4*seconds, 4*seconds, 3*seconds, 3*seconds
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
func (w *circumstance) newHost() *fakeHost {
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

// start runs a daemon of the circumstance.
func (w *circumstance) start(t *testing.T, h *fakeHost, dir, boot string) *rig {
	r := startRigWith(t, h, w.policy(dir), boot)
	r.dir = dir
	return r
}

// cleanModes is what each mode leaves, reached without a fault.
func (m *matrix) cleanModes(t *testing.T, w *circumstance) map[policy.Mode]effects {
	clean := map[policy.Mode]effects{}
	synctest.Test(t, func(t *testing.T) {
		r := w.start(t, w.newHost(), m.dir(t), thisBoot)
		defer r.stop()
		r.settle()
		for _, mode := range []policy.Mode{"desktop", "studio-local", "desktop", "compute", "desktop"} {
			record := r.to(w.request, mode)
			require.True(t, record.Result.Reached(), "%s %s", record.Result, record.Cause)
			clean[mode] = r.host.effects()
		}
	})
	return clean
}

// to asks for a mode as somebody, and waits for the end.
func (r *rig) to(request status.Request, mode policy.Mode) status.Record {
	request.Mode = mode
	id, err := r.Request(r.t.Context(), request)
	require.NoError(r.t, err)
	last := r.settle().Last
	require.Equal(r.t, id, last.ID)
	return *last
}

// machine is what a daemon that died leaves: the host and the files.
type machine struct {
	host  *fakeHost
	files map[string][]byte
	when  string
}

// tape is what happened at the fault points of one run of a plan.
type tape struct {
	m      *matrix
	t      *testing.T
	where  string
	r      *rig
	dir    string
	host   *fakeHost
	breaks string // the point at which something breaks, as "name#occurrence"
	how    string // fail or hang
	every  int    // only one machine of so many is kept

	mu       sync.Mutex
	rolling  bool
	seen     map[string]int
	points   []string
	machines []machine
	broken   int // -1 until the fault
	sum      [2]uint64
}

var seed = maphash.MakeSeed()

// hear is at every fault point.
func (f *tape) hear(ctx context.Context, point string) error {
	f.mu.Lock()
	if !f.rolling {
		f.mu.Unlock()
		return nil
	}
	f.seen[point]++
	key := fmt.Sprintf("%s#%d", point, f.seen[point])
	f.points = append(f.points, key)
	if (f.breaks == "" || f.broken >= 0) && pick(key+f.where, 0, max(f.every, 1)) == 0 {
		f.capture(key)
	}
	f.requireJournaled(point)
	breaks := f.breaks == key
	if breaks {
		f.broken = 0
	}
	f.mu.Unlock()
	switch {
	case !breaks:
		return nil
	case f.how == "fail":
		return errBroken
	case ctx.Done() != nil:
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(time.Minute) // a disk that hangs, and nothing bounds it
	return nil
}

// capture keeps the machine as a daemon that dies now leaves it, unless it is the one
// that was kept last.
func (f *tape) capture(key string) {
	files, err := readFiles(f.dir)
	require.NoError(f.t, err)
	var sum maphash.Hash
	sum.SetSeed(seed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_, _ = sum.WriteString(name)
		_, _ = sum.Write(files[name])
	}
	f.host.mu.Lock()
	now := [2]uint64{sum.Sum64(), uint64(f.host.changes)}
	f.host.mu.Unlock()
	if now == f.sum {
		return
	}
	f.sum = now
	f.machines = append(f.machines, machine{f.host.clone(), files, key})
}

// requireJournaled: whatever touches the host is in the journal before.
func (f *tape) requireJournaled(point string) {
	id, applies := strings.CutSuffix(point, ".apply")
	if !applies {
		return
	}
	data, err := os.ReadFile(filepath.Join(f.dir, "state", "transition.json"))
	var entry runner.Entry
	if err == nil {
		err = json.Unmarshal(data, &entry)
	}
	doing := slices.ContainsFunc(entry.Record.Steps, func(s status.Step) bool {
		return "step."+s.ID == id && s.Status == status.StepDoing
	})
	if err != nil || !doing {
		f.m.violate(f.where, "applied without a journal entry", "%s (%v)", point, err)
	}
}

// roll begins to watch the points of the daemon whose directories are under dir.
func (f *tape) roll() (stop func()) {
	f.rolling, f.seen, f.broken = true, map[string]int{}, -1
	remove := fault.Handle(f.dir, f.hear)
	f.host.fault = func(ctx context.Context, when, what string) error {
		if when != "amid" { // before and after are points of the actors
			return nil
		}
		return f.hear(ctx, "host."+what)
	}
	return func() {
		remove()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.rolling = false
	}
}

// run is a plan that was carried out, with whatever broke.
type run struct {
	*tape
	origin  effects
	from    status.View // before the transition
	id      uint64      // the transition's, 0 when it was refused
	request error
}

// carryOut runs a plan in which something breaks, or nothing. What is left is judged
// by the caller.
func (m *matrix) carryOut(t *testing.T, p plan, breaks, how string) *run {
	where := fmt.Sprintf("%s, %s %s %s", p.circumstance.name, p.name, how, breaks)
	result := &run{tape: &tape{m: m, t: t, where: where, breaks: breaks, how: how, dir: m.dir(t), host: p.newHost()}}
	synctest.Test(t, func(t *testing.T) {
		result.play(t, p)
		if result.broken < 0 && breaks != "" {
			return
		}
		if breaks != "" {
			m.count(how)
			result.judgeAfter(t, p)
		}
	})
	require.NoError(t, os.RemoveAll(result.dir))
	return result
}

func (f *run) play(t *testing.T, p plan) {
	if p.boot {
		f.host.stop("desktop.target")
		f.host.now.Systemd.State = "starting"
	}
	r := p.start(t, f.host, f.dir, thisBoot)
	f.r = r
	if p.boot {
		synctest.Wait()
	} else {
		r.settle()
		for _, mode := range p.route[:len(p.route)-1] {
			record := r.to(p.request, mode)
			require.True(t, record.Result.Reached(), "%s %s", record.Result, record.Cause)
		}
		if p.spoil != nil {
			f.host.change(func() { p.spoil(f.host) })
			r.settle()
		}
	}
	f.from, f.origin = r.View(), f.host.effects()
	stop := f.roll()
	defer stop()
	if p.boot {
		f.host.change(func() { f.host.now.Systemd.State = "running" })
		synctest.Wait()
		time.Sleep(time.Second)
	} else {
		request := p.request
		request.Mode = p.to()
		f.id, f.request = r.Request(t.Context(), request)
		if p.cancel && f.request == nil {
			synctest.Wait()
			err := r.Cancel(t.Context(), f.id, "bob")
			if err != nil && !errors.Is(err, status.ErrNotCancellable) && !errors.Is(err, status.ErrNoSuchTransition) {
				require.NoError(t, err)
			}
		}
	}
	r.settle()
}

// judgeAfter is about a daemon that lived through a failure: what it says then, what
// one that is started after it says, and that the next request works.
func (f *run) judgeAfter(t *testing.T, p plan) {
	r := f.r
	v := r.settle()
	j := judgement{
		m: f.m, t: t, p: p, where: f.where, dir: f.dir, host: f.host, from: f.from, origin: f.origin,
		refused: f.request != nil,
	}
	if f.request == nil && f.id != 0 && (v.Last == nil || v.Last.ID != f.id) {
		j.violate("a transition without an end", "%d: %+v", f.id, v.Last)
	}
	j.judge(v, nil)
	r.stop()
	again := p.start(t, f.host, f.dir, thisBoot)
	defer again.stop()
	j.where += ", started again"
	w := again.settle()
	if v.Desired.Mode != w.Desired.Mode {
		j.violate("a wish is not what it was before the restart", "%s, was %s", w.Desired.Mode, v.Desired.Mode)
	}
	j.judge(w, nil)
	j.nextRequest(again)
}

// try tries everything with one plan.
func (m *matrix) try(t *testing.T, p plan) {
	smooth := m.carryOutSmoothly(t, p)
	for _, at := range smooth.machines {
		for _, boot := range []string{thisBoot, "boot-2"} {
			if p.samples(at.when, boot) {
				m.restart(t, p, smooth, at, boot)
			}
		}
	}
	for i, point := range smooth.points {
		for _, how := range []string{"fail", "hang"} {
			if !chosen(point, i, how) || !p.samples(point, how) {
				continue
			}
			broken := m.carryOut(t, p, point, how)
			if broken.broken < 0 {
				continue
			}
			// The daemon dies on its way back, too.
			left := broken.machines
			for k := range 2 {
				if n := len(left); n > k {
					m.restart(t, p, broken, left[pick(point+how, n/2*k, max(n/2, 1))%n], thisBoot)
				}
			}
		}
	}
}

// everything has the whole matrix tried, tens of thousands of cases; without it a
// sample is, the same each time, of which most are of the six plans between modes.
var everything = os.Getenv("DUBNIUM_CRASHES") == "all"

func (p plan) samples(point, what string) bool {
	rate := 60
	if p.circumstance.name == "as it comes" && p.spoil == nil {
		rate = 8
	}
	if what == "boot-2" {
		rate *= 4
	}
	return everything || pick(p.circumstance.name+p.name+point+what, 0, rate) == 0
}

// chosen: whatever a step does fails and hangs, and what is written fails; the same
// file hangs only now and then, since each time takes the same way.
func chosen(point string, i int, how string) bool {
	if how == "hang" && strings.HasPrefix(point, "events.jsonl.") {
		// The log is locked meanwhile, and fake time stands still while anybody waits for a
		// lock. The watchdog ends a daemon that hangs there: it is one that dies.
		return false
	}
	return strings.HasPrefix(point, "step.") || strings.HasPrefix(point, "host.") && i%2 == 0 || how == "fail" &&
		i%2 == 0 || i%8 == 0
}

// pick chooses one of n, from first on, by a word.
func pick(word string, first, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(word))
	return first + int(h.Sum32())%n
}

func (m *matrix) carryOutSmoothly(t *testing.T, p plan) *run {
	smooth := m.carryOut(t, p, "", "")
	require.Greater(t, len(smooth.machines), 3, smooth.where)
	return smooth
}

// restart starts a daemon on a machine on which one died, judges what it makes of
// it, and lets it die again on the way.
func (m *matrix) restart(t *testing.T, p plan, before *run, at machine, boot string) {
	m.count("die, " + boot)
	film := m.recovery(t, p, before, at, boot, at.when)
	for k := range 2 {
		if n := len(film.machines); k == 0 && n > 0 || k < n && len(at.when)%3 == 0 {
			twice := film.machines[pick(at.when, k, n)%n]
			m.count("die twice, " + boot)
			m.recovery(t, p, before, twice, boot, at.when+" and "+twice.when)
		}
	}
}

// recovery is one start of a daemon on a machine.
func (m *matrix) recovery(t *testing.T, p plan, before *run, at machine, boot, when string) *tape {
	dir, host := m.dir(t), at.host.clone()
	for name, data := range at.files {
		if boot == thisBoot || strings.HasPrefix(name, "state/") { // the other is lost with the boot
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
	}
	if boot != thisBoot && !strings.Contains(when, " and ") {
		host = p.newHost()
	}
	film := &tape{
		m: m, t: t, where: fmt.Sprintf("%s, died at %s, then %s", before.where, when, boot), dir: dir, host: host, every: 8,
	}
	synctest.Test(t, func(t *testing.T) {
		j := judgement{m: m, t: t, p: p, where: film.where, dir: dir, host: host, from: before.from, origin: before.origin}
		if boot != thisBoot {
			j.origin, j.rebooted = p.newHost().effects(), true
		}
		stop := film.roll()
		r := p.start(t, host, dir, boot)
		defer r.stop()
		v := r.settle()
		stop()
		j.judge(v, at.files)
		if j.rebooted && len(host.applied) > 0 {
			j.violate("another boot's journal is acted upon", "%v", host.applied)
		}
		j.nextRequest(r)
	})
	require.NoError(t, os.RemoveAll(dir))
	return film
}

// judgement holds what a daemon says against the host and the disk.
type judgement struct {
	m     *matrix
	t     *testing.T
	p     plan
	where string
	dir   string
	host  *fakeHost
	from  status.View
	// origin is what was on the host before the transition.
	origin   effects
	rebooted bool
	refused  bool // the request was
}

func (j judgement) violate(kind, format string, args ...any) {
	j.m.violate(j.where, kind, format, args...)
}

func (j judgement) word(name string) string {
	data, err := os.ReadFile(filepath.Join(j.dir, "run", name))
	if err != nil {
		j.violate("a file cannot be read", "%v", err)
	}
	return strings.TrimSpace(string(data))
}

// judge is about a daemon that has come to rest. died are the files that it found,
// nil when it was alive all the time.
func (j judgement) judge(v status.View, died map[string][]byte) {
	files, err := readFiles(j.dir)
	require.NoError(j.t, err)
	j.judgeObservation(v)
	j.judgeWish(v)
	outcomes := j.outcomes(files["state/events.jsonl"])
	j.judgeLast(v, outcomes)
	if died != nil {
		if _, there := files["state/transition.json"]; there {
			j.violate("the journal is not ended", "")
		}
		j.judgeRecovery(outcomes, j.journal(died), j.outcomes(died["state/events.jsonl"]))
	} else if entry := j.journal(files); entry != nil && entry.Record.Result == "" {
		j.violate("the journal is not ended", "")
	}
	for name := range files {
		if strings.HasPrefix(filepath.Base(name), ".") && died == nil {
			j.violate("a temporary file is left", "%s", name)
		}
	}
	j.judgeEffects(v)
}

// judgeObservation: what is published is what an independent reading of the host
// says, and the files say the same.
func (j judgement) judgeObservation(v status.View) {
	mode, want := j.host.reads()
	doubt := v.Last != nil && slices.Contains(
		[]status.Result{"failed", "timed-out", "rollback-failed", "interrupted"}, v.Last.Result,
	)
	if doubt && (mode != v.Desired.Mode || want == "unknown") {
		want = "failed-transition"
	}
	if v.Observation.State != want {
		j.violate(
			"the observed state is not the host's", "%s, and the host is %s (%v)", v.Observation.State, want,
			v.Observation.Reasons,
		)
	}
	if got := j.word("current"); got != string(v.Observation.State) {
		j.violate("the file current is not what is observed", "%s, not %s", got, v.Observation.State)
	}
}

// judgeWish: the wish is that of the request or the one before it, the same on disk
// as published.
func (j judgement) judgeWish(v status.View) {
	if got := j.word("desired"); got != string(v.Desired.Mode) {
		j.violate("the file desired is not the wish", "%s, not %s", got, v.Desired.Mode)
	}
	var saved struct{ Mode policy.Mode }
	if err := json.Unmarshal([]byte(j.word("desired.json")), &saved); err != nil || saved.Mode != v.Desired.Mode {
		j.violate("the file desired.json is not the wish", "%s (%v), not %s", saved.Mode, err, v.Desired.Mode)
	}
	before, asked := j.from.Desired.Mode, j.p.to()
	ended := v.Last != nil && (j.from.Last == nil || v.Last.ID > j.from.Last.ID)
	switch {
	case j.rebooted:
		before, asked = policy.Desktop, policy.Desktop
	case j.refused || ended && v.Last.Result == status.Canceled:
		asked = before
	case ended:
		before = asked
	}
	if v.Desired.Mode != before && v.Desired.Mode != asked {
		j.violate("the wish is nobody's", "%s, not %s or %s; last %+v", v.Desired.Mode, before, asked, v.Last)
	}
}

// outcomes are those of a history, by id, as they stand there.
func (j judgement) outcomes(data []byte) map[uint64]status.Record {
	all := map[uint64]status.Record{}
	for line := range bytes.Lines(data) {
		var o struct {
			Event string
			status.Record
		}
		if !bytes.HasSuffix(line, []byte("\n")) || json.Unmarshal(line, &o) != nil || o.Event != "outcome" {
			continue
		}
		if _, twice := all[o.ID]; twice {
			j.violate("an outcome is written twice", "%d", o.ID)
		}
		all[o.ID] = o.Record
	}
	return all
}

func (j judgement) journal(files map[string][]byte) *runner.Entry {
	data, there := files["state/transition.json"]
	if !there {
		return nil
	}
	var entry runner.Entry
	require.NoError(j.t, json.Unmarshal(data, &entry))
	return &entry
}

// judgeLast: the last transition is the last of the history, and the file's.
func (j judgement) judgeLast(v status.View, outcomes map[uint64]status.Record) {
	var newest uint64
	for id := range outcomes {
		newest = max(newest, id)
	}
	var published uint64
	if v.Last != nil {
		published = v.Last.ID
	}
	unwritten := strings.Contains(j.where, " events.jsonl.") && newest < published // it waits, or was lost with the daemon
	if newest != published && !unwritten && !(j.rebooted && published == 0) {
		j.violate("the last transition is not the last", "%d is published, the history has %d", published, newest)
	}
	if v.Last == nil {
		return
	}
	var file struct {
		ID     uint64
		Result status.Result
		Guards []json.RawMessage
	}
	if err := json.Unmarshal([]byte(j.word("last-transition.json")), &file); err != nil ||
		file.ID != published || file.Result != v.Last.Result {
		j.violate(
			"last-transition.json is not the last", "%d %s (%v), not %d %s", file.ID, file.Result, err, published, v.Last.Result,
		)
	}
	var judged []json.RawMessage
	if err := json.Unmarshal([]byte(j.word("last-guards.json")), &judged); err != nil || len(judged) != len(file.Guards) {
		j.violate("last-guards.json is not of the last", "%d verdicts (%v), not %d", len(judged), err, len(file.Guards))
	}
	if v.Last.Final == "" {
		j.violate("an end without a state", "%+v", v.Last)
	}
	if v.Last.Result == status.RolledBack || v.Last.Result == status.RollbackFailed {
		j.requireUndone(*v.Last, func(int) bool { return true })
	}
}

// requireUndone: of the steps that count nothing is left, or it is told that it could
// not be taken back.
func (j judgement) requireUndone(r status.Record, counts func(int) bool) {
	for i, s := range r.Steps {
		if counts(i) && (s.Status == status.StepDoing || s.Status == status.StepDone || s.Status == status.StepFailed) {
			j.violate("a step is not taken back", "%s is %s, after %s to %s: %s", s.ID, s.Status, r.Result, r.Final, r.Cause)
		}
	}
}

// judgeRecovery: a transition whose daemon died in it is interrupted, and the record
// names the step; one that had ended has the end that it had.
func (j judgement) judgeRecovery(
	outcomes map[uint64]status.Record, entry *runner.Entry, before map[uint64]status.Record,
) {
	for id, was := range before {
		if outcomes[id].Result != was.Result {
			j.violate("the history was rewritten", "%d: %s was %s", id, outcomes[id].Result, was.Result)
		}
	}
	if entry == nil {
		return
	}
	record, ended := outcomes[entry.Record.ID]
	if _, told := before[entry.Record.ID]; told {
		return // the end was on disk, if not in the journal
	}
	step := "before the first step"
	for _, s := range entry.Record.Steps {
		if s.Status != "pending" {
			step = "in step " + s.ID
		}
	}
	switch {
	case !ended:
		j.violate("a transition without an end", "%d", entry.Record.ID)
	case entry.Record.Result != "":
		if record.Result != entry.Record.Result {
			j.violate("an end was changed", "%s was %s", record.Result, entry.Record.Result)
		}
	case record.Result != status.Interrupted && record.Result != status.RollbackFailed:
		j.violate("a crash is not told", "%s: %s", record.Result, record.Cause)
	case !strings.Contains(record.Cause, step):
		j.violate("the step is not told", "%q does not say %q", record.Cause, step)
	case j.rebooted && !strings.Contains(record.Cause, "the machine restarted"):
		j.violate("the restart is not told", "%q", record.Cause)
	}
	stays := entry.OriginMode == policy.Compute && record.Final != "compute" // somebody may be logged in by then
	if entry.Record.Result == "" && !j.rebooted && record.Final != observer.Of(record.To) && !stays {
		j.requireUndone(record, func(i int) bool { return !entry.Steps[i].Waits() })
	}
}

// judgeEffects: what is on the host is what was there before, or what a mode is; and
// anything else is told.
func (j judgement) judgeEffects(v status.View) {
	now := j.host.effects()
	mode, _ := j.host.reads()
	if len(now.not(j.origin)) == 0 {
		return
	}
	nearest := now.not(j.origin)
	for _, m := range []policy.Mode{mode, j.p.to(), policy.Desktop} {
		clean := j.p.clean[m]
		if clean == nil {
			continue
		}
		if diff := j.p.concerning(m, now.not(clean)); len(diff) < len(nearest) {
			nearest = diff
		}
	}
	nearest = slices.DeleteFunc(nearest, func(key string) bool { return j.accounted(v, key) })
	if len(nearest) > 0 {
		var last status.Record
		if v.Last != nil {
			last = *v.Last
		}
		j.violate(
			"half an effect that nobody tells", "%v, in %s after %s (%s): %+v", nearest, v.Observation.State, last.Result,
			last.Cause, last.Steps,
		)
	}
}

// accounted: the record of the last transition says of a step that did this that it
// is not as it was, or the host is said to be degraded, by the state or by the record's
// end where the state says more, or nothing at all.
func (j judgement) accounted(v status.View, key string) bool {
	if v.Observation.Degraded() || v.Observation.State == observer.StateUnknown {
		return true
	}
	if v.Last != nil && strings.HasPrefix(string(v.Last.Final), "degraded-") {
		return true
	}
	if strings.HasPrefix(key, "mode-prepare-") && v.Last != nil && v.Last.Result.Reached() {
		return true // it stays up, as its own unit has it
	}
	if v.Last == nil || v.Last.Cause == "" {
		return false
	}
	unit, _, _ := strings.Cut(key, "/")
	bare := unit[:strings.LastIndexByte(unit, '.')]
	return slices.ContainsFunc(v.Last.Steps, func(s status.Step) bool {
		left := s.Status == status.StepDoing ||
			s.Status == status.StepDone || s.Status == status.StepFailed || s.Status == status.StepUndoFailed
		return left && (strings.HasSuffix(s.ID, unit) || strings.HasSuffix(s.ID, bare) || strings.HasPrefix(s.ID, "isolate-") ||
			strings.HasPrefix(s.ID, "set-slices") &&
				strings.HasSuffix(unit, ".slice") || strings.HasSuffix(s.ID, "-maintenance"))
	})
}

// concerning leaves out the units of other modes' contracts: a mode has nothing to
// say of what it neither requires nor forbids.
func (w *circumstance) concerning(mode policy.Mode, keys []string) []string {
	p := w.policy("/")
	own := append(slices.Clone(p.Contract(mode).Required), p.Contract(mode).Forbidden...)
	return slices.DeleteFunc(keys, func(key string) bool {
		return slices.Contains(p.ContractUnits(), key) && !slices.Contains(own, key)
	})
}

// nextRequest: whatever happened, a request for desktop brings a desktop.
func (j judgement) nextRequest(r *rig) {
	r.host.fault = nil
	request := j.p.request
	request.Mode = policy.Desktop
	id, err := r.Request(j.t.Context(), request)
	if err != nil {
		j.violate("the next request is refused", "%v", err)
		return
	}
	v := r.settle()
	switch {
	case v.Last == nil || v.Last.ID != id:
		j.violate("the next request has no end", "%d: %+v", id, v.Last)
	case !v.Last.Result.Reached() || v.Observation.State != "desktop":
		j.violate("the next request does not work", "%s, %s: %s", v.Last.Result, v.Observation.State, v.Last.Cause)
	}
	now := j.host.effects()
	diff := slices.DeleteFunc(
		j.p.concerning(policy.Desktop, now.not(j.p.clean[policy.Desktop])),
		func(key string) bool { return strings.HasPrefix(key, "mode-prepare-") },
	)
	if len(diff) > 0 {
		j.violate("the next request leaves something", "%v", diff)
	}
	if _, state := j.host.reads(); state != "desktop" {
		j.violate("the next request claims what is not so", "the host is %s", state)
	}
	if _, err := os.Stat(filepath.Join(j.dir, "run", "reconcile.pid")); err == nil {
		j.violate("the lock's pid is left", "")
	}
	if _, err := os.Stat(filepath.Join(j.dir, "state", "transition.json")); err == nil {
		j.violate("the journal is left", "")
	}
}
