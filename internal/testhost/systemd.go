package testhost

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

const (
	systemdName      = "org.freedesktop.systemd1"
	managerInterface = systemdName + ".Manager"
	unitInterface    = systemdName + ".Unit"
	jobInterface     = systemdName + ".Job"
)

// systemd is org.freedesktop.systemd1 (man 5 org.freedesktop.systemd1).
type systemd struct {
	service
	subscribed map[string]bool
}

func newSystemd(h *Host) *systemd {
	s := &systemd{subscribed: map[string]bool{}}
	s.service = service{host: h, name: systemdName, root: systemdPath, lookup: s.find, children: s.list}
	s.gone = func(name string) { delete(s.subscribed, name) }
	return s
}

// reference is an (so): a name with the path of its object.
type reference struct {
	Name string
	Path dbus.ObjectPath
}

type jobReference struct {
	ID   uint32
	Path dbus.ObjectPath
}

func (s *systemd) find(at dbus.ObjectPath) *object {
	if at == systemdPath {
		return &object{
			methods: map[string]methods{managerInterface: s.manager()},
			props:   map[string]map[string]any{managerInterface: managerProperties(s.host.model)},
		}
	}
	if label, ok := leaf(at, systemdPath+"/job"); ok {
		id, err := strconv.ParseUint(label, 10, 32)
		if err != nil {
			return nil
		}
		job, err := s.host.model.JobByID(uint32(id))
		if err != nil {
			return nil
		}
		return s.job(job)
	}
	name, ok := leaf(at, systemdPath+"/unit")
	if !ok {
		return nil
	}
	// Asking for a unit's properties loads it, whether it has a file or not.
	u, err := s.host.model.Unit(name)
	if err != nil {
		return nil
	}
	return &object{
		methods: map[string]methods{unitInterface: unitMethods(u.Name)},
		props:   unitProperties(u),
	}
}

func (s *systemd) list(at dbus.ObjectPath) []string {
	var out []string
	switch at {
	case systemdPath:
		return []string{"unit", "job"}
	case systemdPath + "/unit":
		for _, u := range s.host.model.ListUnits() {
			out = append(out, escapeLabel(u.Name))
		}
	case systemdPath + "/job":
		for _, j := range s.host.model.Jobs() {
			out = append(out, fmt.Sprint(j.ID))
		}
	}
	return out
}

func (s *systemd) job(j sim.Job) *object {
	return &object{
		methods: map[string]methods{jobInterface: {"Cancel": {call: func(c *call) ([]any, error) {
			return nil, c.model.CancelJob(j.ID)
		}}}},
		props: map[string]map[string]any{jobInterface: {
			"Id": j.ID, "Unit": reference{j.Unit, UnitPath(j.Unit)}, "JobType": j.Type, "State": j.State,
		}},
	}
}

func (s *systemd) manager() methods {
	ms := methods{
		"Subscribe":        {call: s.subscribe},
		"Unsubscribe":      {call: s.unsubscribe},
		"GetUnit":          {in: "s", out: "o", call: getUnit},
		"LoadUnit":         {in: "s", out: "o", call: loadUnit},
		"GetUnitByPID":     {in: "u", out: "o", call: getUnitByPID},
		"RefUnit":          {in: "s", call: refUnit},
		"ListUnits":        {out: "a(ssssssouso)", call: listUnits},
		"ListUnitsByNames": {in: "as", out: "a(ssssssouso)", call: listUnitsByNames},
		"ListJobs":         {out: "a(usssoo)", call: listJobs},
		"GetJob":           {in: "u", out: "o", call: getJob},
		"CancelJob":        {in: "u", call: cancelJob},
		"ResetFailedUnit":  {in: "s", call: func(c *call) ([]any, error) { return nil, c.model.ResetFailed(c.str(0)) }},
		"ResetFailed":      {call: resetFailed},
		"KillUnit": {
			in: "ssi", call: func(c *call) ([]any, error) { return nil, c.model.Kill(c.str(0), c.i32(2)) },
		},
		"SetUnitProperties":   {in: "sba(sv)", call: setUnitProperties},
		"GetUnitFileState":    {in: "s", out: "s", call: getUnitFileState},
		"Reload":              {call: func(c *call) ([]any, error) { c.model.Reload(); return nil, nil }},
		"ListUnitsByPatterns": {in: "asas", out: "a(ssssssouso)", call: listUnitsByPatterns},
		"GetDefaultTarget": {
			out: "s", call: func(c *call) ([]any, error) { return []any{c.svc.host.opts.defaultTarget()}, nil },
		},
	}
	for member, job := range jobMethods {
		ms[member+"Unit"] = method{in: "ss", out: "o", call: func(c *call) ([]any, error) {
			return enqueue(c, c.str(0), job, c.str(1))
		}}
	}
	return ms
}

// jobMethods are those of Unit; the Manager's have Unit behind their name.
var jobMethods = map[string]string{"Start": "start", "Stop": "stop", "Restart": "restart", "Reload": "reload"}

func unitMethods(name string) methods {
	ms := methods{
		"ResetFailed": {call: func(c *call) ([]any, error) { return nil, c.model.ResetFailed(name) }},
		"Kill":        {in: "si", call: func(c *call) ([]any, error) { return nil, c.model.Kill(name, c.i32(1)) }},
		"SetProperties": {in: "ba(sv)", call: func(c *call) ([]any, error) {
			return nil, c.model.SetProperties(name, settings(c.msg.Body[1])...)
		}},
	}
	for member, job := range jobMethods {
		ms[member] = method{in: "s", out: "o", call: func(c *call) ([]any, error) {
			return enqueue(c, name, job, c.str(0))
		}}
	}
	return ms
}

func enqueue(c *call, name, job, mode string) ([]any, error) {
	id, err := c.model.Enqueue(name, job, mode)
	if err != nil {
		return nil, err
	}
	return []any{jobPath(id)}, nil
}

func (s *systemd) subscribe(c *call) ([]any, error) {
	if s.subscribed[c.sender] {
		return nil, &sim.Error{Name: sim.ErrAlreadySubscribed, Text: "Client is already subscribed."}
	}
	s.subscribed[c.sender] = true
	return nil, nil
}

func (s *systemd) unsubscribe(c *call) ([]any, error) {
	if !s.subscribed[c.sender] {
		return nil, &sim.Error{Name: sim.ErrNotSubscribed, Text: "Client is not subscribed."}
	}
	delete(s.subscribed, c.sender)
	return nil, nil
}

func getUnit(c *call) ([]any, error) {
	name, err := c.model.GetUnit(c.str(0))
	if err != nil {
		return nil, err
	}
	return []any{UnitPath(name)}, nil
}

func loadUnit(c *call) ([]any, error) {
	name, err := c.model.LoadUnit(c.str(0))
	if err != nil {
		return nil, err
	}
	return []any{UnitPath(name)}, nil
}

func refUnit(c *call) ([]any, error) { return nil, c.model.RefUnit(c.str(0)) }

func getUnitByPID(c *call) ([]any, error) {
	for _, p := range c.model.Processes() {
		if p.PID == int(c.u32(0)) {
			return []any{UnitPath(p.Cgroup[strings.LastIndexByte(p.Cgroup, '/')+1:])}, nil
		}
	}
	return nil, &sim.Error{
		Name: "org.freedesktop.systemd1.NoUnitForPID", Text: fmt.Sprintf(
			"PID %d does not belong to any loaded unit.", c.u32(0),
		),
	}
}

// unitRow is one row of ListUnits.
type unitRow struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func row(u sim.UnitStatus) unitRow {
	return unitRow{
		Name: u.Name, Description: description(u), Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState,
		Path: UnitPath(u.Name), JobID: u.Job.ID, JobType: u.Job.Type, JobPath: jobPath(u.Job.ID),
	}
}

func listUnits(c *call) ([]any, error) {
	rows := []unitRow{}
	for _, u := range c.model.ListUnits() {
		rows = append(rows, row(u))
	}
	return []any{rows}, nil
}

// listUnitsByNames answers for every name, found or not.
func listUnitsByNames(c *call) ([]any, error) {
	rows := []unitRow{}
	for _, name := range c.msg.Body[0].([]string) {
		switch u, err := c.model.Unit(name); {
		case err == nil:
			rows = append(rows, row(u))
		case sim.ValidName(name): // it is tried to be loaded, and told as it is then
			rows = append(rows, unitRow{
				Name: name, Description: name, Load: "not-found", Active: "inactive", Sub: "dead", Path: UnitPath(name), JobPath: "/",
			})
		}
	}
	return []any{rows}, nil
}

// listUnitsByPatterns takes states, active or load or sub, and shell patterns.
func listUnitsByPatterns(c *call) ([]any, error) {
	states, patterns := c.msg.Body[0].([]string), c.msg.Body[1].([]string)
	rows := []unitRow{}
	for _, u := range c.model.ListUnits() {
		inState := func(state string) bool { return state == u.ActiveState || state == u.LoadState || state == u.SubState }
		matches := func(pattern string) bool { ok, err := path.Match(pattern, u.Name); return ok && err == nil }
		if (len(states) == 0 || slices.ContainsFunc(states, inState)) &&
			(len(patterns) == 0 || slices.ContainsFunc(patterns, matches)) {
			rows = append(rows, row(u))
		}
	}
	return []any{rows}, nil
}

type jobRow struct {
	ID                uint32
	Unit, Type, State string
	Path, UnitPath    dbus.ObjectPath
}

func listJobs(c *call) ([]any, error) {
	rows := []jobRow{}
	for _, j := range c.model.Jobs() {
		rows = append(rows, jobRow{j.ID, j.Unit, j.Type, j.State, jobPath(j.ID), UnitPath(j.Unit)})
	}
	return []any{rows}, nil
}

func getJob(c *call) ([]any, error) {
	j, err := c.model.JobByID(c.u32(0))
	if err != nil {
		return nil, err
	}
	return []any{jobPath(j.ID)}, nil
}

func cancelJob(c *call) ([]any, error) { return nil, c.model.CancelJob(c.u32(0)) }

func resetFailed(c *call) ([]any, error) {
	for _, u := range c.model.ListUnits() {
		if err := c.model.ResetFailed(u.Name); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func setUnitProperties(c *call) ([]any, error) {
	return nil, c.model.SetProperties(c.str(0), settings(c.msg.Body[2])...)
}

// settings reads an a(sv) as godbus decodes it.
func settings(body any) []sim.Setting {
	var out []sim.Setting
	for _, pair := range body.([][]any) {
		out = append(out, sim.Setting{Name: pair[0].(string), Value: pair[1].(dbus.Variant).Value()})
	}
	return out
}

func getUnitFileState(c *call) ([]any, error) {
	u, err := c.model.Unit(c.str(0))
	if err != nil {
		return nil, err
	}
	if u.LoadState == "not-found" {
		return nil, &sim.Error{Name: sim.ErrFileNotFound, Text: "No such file or directory"}
	}
	return []any{u.FileState}, nil
}

func description(u sim.UnitStatus) string {
	if u.Description == "" {
		return u.Name
	}
	return u.Description
}

// event turns what the model says into signals; they are sent only while
// somebody is subscribed (bus_foreach_bus, src/core/dbus.c).
func (s *systemd) event(e sim.Event) {
	if len(s.subscribed) == 0 {
		return
	}
	switch e := e.(type) {
	case sim.JobNew:
		s.emit(systemdPath, managerInterface+".JobNew", e.Job.ID, jobPath(e.Job.ID), e.Job.Unit)
	case sim.JobRemoved:
		s.emit(systemdPath, managerInterface+".JobRemoved", e.Job.ID, jobPath(e.Job.ID), e.Job.Unit, e.Result)
	case sim.UnitNew:
		s.emit(systemdPath, managerInterface+".UnitNew", e.Name, UnitPath(e.Name))
	case sim.UnitRemoved:
		s.emit(systemdPath, managerInterface+".UnitRemoved", e.Name, UnitPath(e.Name))
	case sim.UnitChanged:
		s.unitChanged(e.Unit)
	case sim.Reloading:
		s.emit(systemdPath, managerInterface+".Reloading", e.Active)
	case sim.StartupFinished:
		s.emit(systemdPath, managerInterface+".StartupFinished",
			uint64(0), uint64(0), uint64(1_000_000), uint64(0), uint64(4_000_000), uint64(5_000_000))
	}
}

// unitChanged sends the type's own interface first, then Unit, as
// bus_unit_send_change_signal does.
func (s *systemd) unitChanged(u sim.UnitStatus) {
	at, props := UnitPath(u.Name), unitProperties(u)
	for iface, values := range props {
		if iface != unitInterface && len(values) > 0 {
			s.changed(at, iface, values)
		}
	}
	volatile := map[string]any{}
	for name, v := range props[unitInterface] {
		if slices.Contains(changingProperties, name) {
			volatile[name] = v
		}
	}
	s.changed(at, unitInterface, volatile)
}
