package sim

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// enter puts a unit into a state, with everything that follows from being
// there: its program, what is bound to it, sessions, the display manager.
func (m *Model) enter(u *unit, state string) {
	if u.active == state {
		return
	}
	was := u.active
	u.active, u.sub, u.since = state, subState(u, state), m.now
	switch state {
	case "activating", "active":
		if was == "inactive" || was == "failed" {
			m.invoked++
			u.invocation, u.result = m.invoked, "success"
		}
	}
	if state == "active" && u.Program != nil && u.pid == 0 {
		u.pid = m.spawn(*u.Program, u.cgroup())
	}
	gone := down(u)
	if gone && !u.fault.Unkillable {
		m.endPrograms(u)
	}
	m.changed(u)
	if gone && was != "activating" {
		m.stopBound(u)
	}
	m.entered(u, state)
	m.loginEntered(u, state)
	if gone {
		if j := u.job; j != nil && j.started && stops(j) {
			m.after(0, func() { m.complete(j) }) // it stopped by itself
		}
		m.after(0, m.dispatch) // a start job may wait for the stop
	}
}

// endPrograms ends what the unit runs, except for workers that it leaves.
func (m *Model) endPrograms(u *unit) {
	for _, pid := range m.members(u.cgroup()) {
		if !u.fault.LeavesWorker || len(m.procs[pid].Opens) == 0 {
			m.RemoveProcess(pid)
		}
	}
	u.pid = 0
}

func (m *Model) entered(u *unit, state string) {
	if state == "active" && u.OnActive != nil {
		u.OnActive(m)
	}
	if down(u) && u.OnInactive != nil {
		u.OnInactive(m)
	}
}

// stopBound: BindsTo= stops a unit whose other end went away by itself.
func (m *Model) stopBound(u *unit) {
	for _, o := range m.related(u, "BoundBy") {
		if o.active == "active" && o.job == nil {
			name := o.Name
			m.after(0, func() { _, _ = m.Enqueue(name, "stop", "replace") })
		}
	}
}

func subState(u *unit, state string) string {
	switch state {
	case "activating":
		return "start"
	case "deactivating":
		return "stop-sigterm"
	case "inactive":
		return "dead"
	case "failed":
		return "failed"
	}
	switch TypeOf(u.Name) {
	case "service":
		if u.Oneshot {
			return "exited"
		}
		return "running"
	case "scope":
		return "running"
	case "socket":
		return "listening"
	case "timer", "path":
		return "waiting"
	case "mount":
		return "mounted"
	}
	return "active"
}

func (m *Model) changed(u *unit) { m.emit(UnitChanged{m.status(u)}) }

func (m *Model) status(u *unit) UnitStatus {
	st := UnitStatus{
		Unit: u.Unit, Names: []string{u.Name}, LoadState: u.load, ActiveState: u.active, SubState: u.sub,
		FileState: u.fileState(), Result: u.result, MainPID: u.pid, Invocation: u.invocation, Since: u.since,
		NeedReload: u.needReload, Relations: make(map[string][]string, len(inverse)), Settings: maps.Clone(u.settings),
	}
	for _, alias := range slices.Sorted(maps.Keys(m.alias)) {
		if m.alias[alias] == u.Name {
			st.Names = append(st.Names, alias)
		}
	}
	if !down(u) {
		st.ControlGroup = u.cgroup()
	}
	if u.job != nil {
		st.Job = u.job.Job
	}
	if u.load == "not-found" {
		st.FileState = ""
	}
	for rel := range inverse {
		st.Relations[rel] = slices.Sorted(maps.Keys(u.rel[rel]))
	}
	return st
}

// Unit shows any unit of a valid name; one without a file is not-found.
func (m *Model) Unit(name string) (UnitStatus, error) {
	u, err := m.lookup(name)
	if u != nil {
		return m.status(u), nil
	}
	if !ValidName(name) {
		return UnitStatus{}, err
	}
	stub := &unit{Unit: Unit{Name: name}, load: "not-found", active: "inactive", sub: "dead", result: "success"}
	return m.status(stub), nil
}

// LoadUnit loads a unit's file, as the method does.
func (m *Model) LoadUnit(name string) (string, error) {
	u, err := m.lookup(name)
	if u == nil {
		if !ValidName(name) {
			return "", err
		}
		return name, nil
	}
	u.loaded = true
	return u.Name, nil
}

// RefUnit keeps a unit in memory, as the method does. One without a file, or masked,
// it refuses (bus_unit_validate_load_state, src/core/dbus-unit.c).
func (m *Model) RefUnit(name string) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	if u.Masked {
		return refuse(ErrUnitMasked, "Unit %s is masked.", u.Name)
	}
	u.loaded = true
	return nil
}

// GetUnit finds a unit that is in memory. systemd forgets units that are
// inactive and that nothing loaded refers to (unit_gc_sweep, src/core/manager.c):
// that GetUnit fails does not mean that there is no such unit.
func (m *Model) GetUnit(name string) (string, error) {
	if !ValidName(name) {
		return "", refuse(ErrInvalidArgs, "Unit name %s is not valid.", name)
	}
	if u := m.find(name); u != nil && m.inMemory()[u.Name] {
		return u.Name, nil
	}
	return "", refuse(ErrNoSuchUnit, "Unit %s not loaded.", name)
}

// ListUnits lists the units in memory, by name.
func (m *Model) ListUnits() []UnitStatus {
	names := slices.Sorted(maps.Keys(m.inMemory()))
	out := make([]UnitStatus, len(names))
	for i, name := range names {
		out[i] = m.status(m.units[name])
	}
	return out
}

// CountUnits counts the units in memory, and the failed ones among them.
func (m *Model) CountUnits() (all, failed int) {
	for name := range m.inMemory() {
		all++
		if m.units[name].active == "failed" {
			failed++
		}
	}
	return all, failed
}

// inMemory is everything that is alive, and everything that it refers to.
func (m *Model) inMemory() map[string]bool {
	seen := map[string]bool{}
	var visit func(u *unit)
	visit = func(u *unit) {
		if seen[u.Name] {
			return
		}
		seen[u.Name] = true
		for rel := range inverse {
			if forward(rel) {
				for name := range u.rel[rel] {
					visit(m.units[name])
				}
			}
		}
	}
	for _, u := range m.units {
		template := u.Name[max(0, len(u.Name)-len(TypeOf(u.Name))-2)] == '@'
		if (!idle(u) || u.active == "failed" || u.loaded) && !template {
			visit(u)
		}
	}
	return seen
}

// forward relations are those that a file spells out and that loading follows.
func forward(rel string) bool {
	switch rel {
	case "Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Conflicts", "After", "Triggers":
		return true
	}
	return false
}

// SystemState is the manager's: starting, running or degraded.
func (m *Model) SystemState() string {
	if m.booting {
		return "starting"
	}
	for _, u := range m.units {
		if u.active == "failed" {
			return "degraded"
		}
	}
	return "running"
}

// defaultSettings are the resource properties that a slice shows when nobody
// set them: an infinite value means "not set" (systemd.resource-control(5)).
func defaultSettings(name string) map[string]any {
	switch TypeOf(name) {
	case "slice", "scope", "service":
	default:
		return nil
	}
	unset := uint64(math.MaxUint64)
	return map[string]any{
		"CPUWeight": unset, "IOWeight": unset, "MemoryHigh": unset, "MemoryMax": unset, "MemoryLow": uint64(0),
		"MemoryMin": uint64(0), "MemorySwapMax": unset, "TasksMax": unset, "CPUQuotaPerSecUSec": unset,
		"AllowedCPUs": []byte{}, "AllowedMemoryNodes": []byte{},
	}
}

// Setting is one property with its new value.
type Setting struct {
	Name  string
	Value any
}

// SetProperties is SetUnitProperties. All or nothing, in order; CPU and node sets
// are added to, and an empty one resets them (bus_cgroup_set_cpuset_property).
func (m *Model) SetProperties(name string, values ...Setting) error {
	u, err := m.lookup(name)
	if err != nil {
		return err
	}
	next := maps.Clone(u.settings)
	for _, setting := range values {
		key, value := setting.Name, setting.Value
		old, known := next[key]
		if !known {
			return refuse(ErrPropertyReadOnly, "Cannot set property %s, or unknown property.", key)
		}
		switch v := value.(type) {
		case uint64:
			if _, ok := old.(uint64); !ok {
				return refuse(ErrInvalidArgs, "Incorrect type of property %s", key)
			}
			if strings.HasSuffix(key, "Weight") && v > 10000 && v != math.MaxUint64 {
				return refuse(ErrInvalidArgs, "Value specified in %s is out of range", key)
			}
			next[key] = v
		case []byte:
			set, ok := old.([]byte)
			if !ok {
				return refuse(ErrInvalidArgs, "Incorrect type of property %s", key)
			}
			next[key] = union(set, v)
		default:
			return refuse(ErrInvalidArgs, "Incorrect type of property %s", key)
		}
	}
	u.settings = next
	m.changed(u)
	return nil
}

func union(set, more []byte) []byte {
	if len(more) == 0 {
		return []byte{}
	}
	out := make([]byte, max(len(set), len(more)))
	copy(out, set)
	for i, b := range more {
		out[i] |= b
	}
	return out
}
