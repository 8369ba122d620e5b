package sim

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Config is the machine to simulate.
type Config struct {
	Units []Unit
	// DefaultTarget is started at boot.
	DefaultTarget string
	// Booting leaves the boot's jobs queued, so that the manager is `starting`
	// until the units named by HoldBoot are released.
	Booting  bool
	HoldBoot string
	// JobTime is the least that a job takes.
	JobTime time.Duration
	Login   LoginConfig
	Start   time.Time
}

// Model is the simulated machine.
type Model struct {
	cfg      Config
	now      time.Time
	timers   []timer
	seq      int
	sink     func(Event)
	units    map[string]*unit
	alias    map[string]string
	jobs     []*job // by id, which is the order of arrival
	lastJob  uint32
	invoked  uint64
	booting  bool
	procs    map[int]*Process
	lastPID  int
	login    loginState
	pidOwner map[int]string
}

// unit is a declaration with its run-time state.
type unit struct {
	Unit
	load       string
	loaded     bool // loaded on demand (LoadUnit, RefUnit), never collected
	active     string
	sub        string
	result     string
	job        *job
	pid        int
	invocation uint64
	since      time.Time
	needReload bool
	rel        map[string]map[string]bool
	settings   map[string]any
	fault      Fault
}

type job struct {
	Job
	gone    bool
	started bool
}

type timer struct {
	due time.Time
	seq int
	run func()
}

// New builds the machine and boots it; events before New returns are lost,
// for nobody can have subscribed yet.
func New(cfg Config) (*Model, error) {
	m := &Model{
		cfg: cfg, now: cfg.Start, sink: func(Event) {},
		units: map[string]*unit{}, alias: map[string]string{},
		procs: map[int]*Process{}, lastPID: 400, pidOwner: map[int]string{},
	}
	m.login.init()
	m.initProcesses()
	for _, u := range cfg.Units {
		m.declare(u)
	}
	m.link()
	m.booting = true
	if cfg.Booting && cfg.HoldBoot != "" {
		if err := m.SetFault(cfg.HoldBoot, Fault{HangStart: true}); err != nil {
			return nil, err
		}
	}
	if _, err := m.Enqueue(cfg.DefaultTarget, "start", "replace"); err != nil {
		return nil, err
	}
	m.settle()
	return m, nil
}

// settle does everything that is queued, in virtual time, then puts the clock
// back: what happened before the test began took no time.
func (m *Model) settle() {
	for range 10000 {
		due, ok := m.Next()
		if !ok {
			break
		}
		m.RunUntil(due)
	}
	m.now = m.cfg.Start
}

// SetSink names who gets the events from now on.
func (m *Model) SetSink(sink func(Event)) { m.sink = sink }

func (m *Model) emit(e Event) { m.sink(e) }

// Now is the virtual time.
func (m *Model) Now() time.Time { return m.now }

// after queues work; a zero delay still runs later than the caller.
func (m *Model) after(d time.Duration, run func()) {
	m.seq++
	t := timer{due: m.now.Add(d), seq: m.seq, run: run}
	at, _ := slices.BinarySearchFunc(m.timers, t, func(a, b timer) int {
		if c := a.due.Compare(b.due); c != 0 {
			return c
		}
		return a.seq - b.seq
	})
	m.timers = slices.Insert(m.timers, at, t)
}

// Next tells when there is something to do.
func (m *Model) Next() (time.Time, bool) {
	if len(m.timers) == 0 {
		return time.Time{}, false
	}
	return m.timers[0].due, true
}

// RunUntil moves the clock and does what is due by then.
func (m *Model) RunUntil(now time.Time) {
	for len(m.timers) > 0 && !m.timers[0].due.After(now) {
		next := m.timers[0]
		m.timers = m.timers[1:]
		if next.due.After(m.now) {
			m.now = next.due
		}
		next.run()
	}
	if now.After(m.now) {
		m.now = now
	}
}

// AddUnit installs a unit file, or replaces one and keeps the unit's state, as
// writing the file and a daemon-reload would.
func (m *Model) AddUnit(u Unit) {
	known := m.units[u.Name] != nil
	m.declare(u)
	m.link()
	if !known {
		m.emit(UnitNew{u.Name})
	}
}

func (m *Model) declare(spec Unit) *unit {
	u := m.units[spec.Name]
	if u == nil {
		u = &unit{active: "inactive", sub: "dead", result: "success", since: m.now, settings: defaultSettings(spec.Name)}
		m.units[spec.Name] = u
	}
	u.Unit = spec
	u.IgnoreOnIsolate = spec.IgnoreOnIsolate || ignoredByType(spec.Name)
	u.load = "loaded"
	switch {
	case spec.Masked:
		u.load = "masked"
	case spec.LoadError:
		u.load = "error"
	}
	for _, alias := range spec.Aliases {
		m.alias[alias] = spec.Name
	}
	return u
}

// link computes every relation from both sides. Names that no file defines
// become units that are not found, as systemd lists them.
func (m *Model) link() {
	for _, u := range m.units {
		u.rel = map[string]map[string]bool{}
	}
	for _, name := range slices.Sorted(maps.Keys(m.units)) {
		u := m.units[name]
		if u.load != "loaded" {
			continue // an unreadable or masked file declares nothing
		}
		for rel, others := range u.relations() {
			for _, other := range others {
				if o := m.reference(other); o != u {
					relate(u, rel, o)
				}
			}
		}
	}
	for _, u := range m.units {
		if TypeOf(u.Name) == "target" && !u.NoDefaultDependencies {
			m.orderTarget(u)
		}
	}
}

// orderTarget: a target comes after what it wants, unless that is ordered after
// the target (systemd.target(5), default dependencies).
func (m *Model) orderTarget(target *unit) {
	for _, rel := range []string{"Wants", "Requires"} {
		for name := range target.rel[rel] {
			if other := m.units[name]; !target.rel["Before"][name] && !other.NoDefaultDependencies {
				relate(target, "After", other)
			}
		}
	}
}

func relate(u *unit, rel string, o *unit) {
	put := func(a *unit, rel, name string) {
		if a.rel == nil {
			a.rel = map[string]map[string]bool{}
		}
		if a.rel[rel] == nil {
			a.rel[rel] = map[string]bool{}
		}
		a.rel[rel][name] = true
	}
	put(u, rel, o.Name)
	put(o, inverse[rel], u.Name)
}

// reference resolves a name that a relation uses.
func (m *Model) reference(name string) *unit {
	if u := m.find(name); u != nil {
		return u
	}
	u := m.declare(Unit{Name: name})
	if TypeOf(name) != "slice" { // a slice needs no file
		u.load = "not-found"
	}
	u.rel = map[string]map[string]bool{}
	return u
}

// find resolves aliases and instantiates templates; nil when no file has it.
func (m *Model) find(name string) *unit {
	if real, ok := m.alias[name]; ok {
		name = real
	}
	if u := m.units[name]; u != nil {
		return u
	}
	at, dot := strings.IndexByte(name, '@'), strings.LastIndexByte(name, '.')
	if at <= 0 || at+1 >= dot {
		return nil
	}
	template := m.units[name[:at+1]+name[dot:]]
	if template == nil {
		return nil
	}
	u := m.declare(template.instance(name))
	m.link()
	m.emit(UnitNew{name})
	return u
}

// lookup is find for requests: it knows every valid name, found or not.
func (m *Model) lookup(name string) (*unit, error) {
	if !ValidName(name) {
		return nil, refuse(ErrInvalidArgs, "Unit name %s is not valid.", name)
	}
	if u := m.find(name); u != nil {
		return u, nil
	}
	return nil, refuse(ErrNoSuchUnit, "Unit %s not found.", name)
}

// related lists a relation's units, sorted, so that every run is the same run.
func (m *Model) related(u *unit, rel string) []*unit {
	out := make([]*unit, 0, len(u.rel[rel]))
	for _, name := range slices.Sorted(maps.Keys(u.rel[rel])) {
		if o := m.units[name]; o != nil {
			out = append(out, o)
		}
	}
	return out
}
