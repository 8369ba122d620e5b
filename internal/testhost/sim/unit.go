package sim

import (
	"slices"
	"strings"
	"time"
)

// Unit declares a unit as its file would. Relations are named by either side:
// WantedBy here is what [Install] becomes after `systemctl enable`.
type Unit struct {
	Name        string
	Aliases     []string
	Description string
	FileState   string // default: static, or enabled when something wants it
	Masked      bool
	LoadError   bool

	Wants, Requires, Requisite, BindsTo, PartOf []string
	Conflicts, After, Before                    []string
	WantedBy, RequiredBy                        []string
	Triggers                                    []string
	Slice                                       string // default: system.slice for services

	AllowIsolate      bool
	IgnoreOnIsolate   bool // always true for the types where systemd's default is yes
	RefuseManualStart bool
	RefuseManualStop  bool
	Transient         bool
	// NoDefaultDependencies is DefaultDependencies=no.
	NoDefaultDependencies bool

	// Oneshot units return to inactive when done, unless RemainAfterExit.
	Oneshot, RemainAfterExit, CanReload bool
	// StartTakes and StopTakes are how long the jobs run.
	StartTakes, StopTakes time.Duration
	// Program runs while the unit is active.
	Program *Program
	// OnActive and OnInactive run after the state was entered; they may call
	// the Model.
	OnActive, OnInactive func(m *Model)
}

// Program is what a unit or a session runs.
type Program struct {
	Comm    string
	Cmdline []string
	UID     uint32
	Opens   []string // names of devices: card0, renderD128, ...
}

// The relations of org.freedesktop.systemd1.Unit, each with the property that
// shows it from the other side.
var inverse = map[string]string{
	"Wants": "WantedBy", "Requires": "RequiredBy", "Requisite": "RequisiteOf",
	"BindsTo": "BoundBy", "PartOf": "ConsistsOf", "Conflicts": "ConflictedBy",
	"After": "Before", "Triggers": "TriggeredBy",
	"WantedBy": "Wants", "RequiredBy": "Requires", "RequisiteOf": "Requisite",
	"BoundBy": "BindsTo", "ConsistsOf": "PartOf", "ConflictedBy": "Conflicts",
	"Before": "After", "TriggeredBy": "Triggers",
}

// Relations lists the names of all relation properties, sorted.
func Relations() []string {
	names := make([]string, 0, len(inverse))
	for name := range inverse {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TypeOf is the unit type: the part after the last dot.
func TypeOf(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// knownTypes are systemd's unit types (src/basic/unit-def.c).
var knownTypes = []string{
	"service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope",
}

// ValidName tells whether systemd would take the name for a unit's.
func ValidName(name string) bool {
	return len(name) < 256 && strings.LastIndexByte(name, '.') > 0 &&
		slices.Contains(knownTypes, TypeOf(name)) && !strings.ContainsAny(name, "/ \t\n")
}

// ignoredByType: systemd.unit(5), IgnoreOnIsolate: "Defaults to true for mount,
// swap, device, automount, slice and scope units".
func ignoredByType(name string) bool {
	switch TypeOf(name) {
	case "mount", "swap", "device", "automount", "slice", "scope":
		return true
	}
	return false
}

// relations gives what the unit declares, with systemd's implicit and default
// dependencies (systemd.special(7), systemd.service(5) "Default Dependencies").
func (u Unit) relations() map[string][]string {
	rel := map[string][]string{
		"Wants": u.Wants, "Requires": u.Requires, "Requisite": u.Requisite, "BindsTo": u.BindsTo,
		"PartOf": u.PartOf, "Conflicts": u.Conflicts, "After": u.After, "Before": u.Before,
		"WantedBy": u.WantedBy, "RequiredBy": u.RequiredBy, "Triggers": u.Triggers,
	}
	add := func(name string, to ...string) { rel[name] = append(slices.Clone(rel[name]), to...) }
	if slice := u.slice(); slice != "" {
		add("Requires", slice)
		add("After", slice)
	}
	if u.NoDefaultDependencies {
		return rel
	}
	switch TypeOf(u.Name) {
	case "service":
		add("Requires", "sysinit.target")
		add("After", "sysinit.target", "basic.target")
	case "timer", "socket", "path":
		add("Requires", "sysinit.target")
		add("After", "sysinit.target")
	}
	return rel
}

// slice is the slice above the unit; a-b.slice lies in a.slice.
func (u Unit) slice() string {
	if u.Slice == "" && TypeOf(u.Name) == "service" {
		return "system.slice"
	}
	if i := strings.LastIndexByte(u.Name, '-'); i > 0 && TypeOf(u.Name) == "slice" {
		return u.Name[:i] + ".slice"
	}
	return u.Slice
}

// cgroup is the unit's control group, under its slice's path.
func (u Unit) cgroup() string {
	switch TypeOf(u.Name) {
	case "slice":
		return slicePath(u.Name)
	case "service", "scope", "socket":
		return slicePath(u.slice()) + "/" + u.Name
	}
	return ""
}

// slicePath spells a-b.slice as /a.slice/a-b.slice (systemd.slice(5)).
func slicePath(slice string) string {
	stem := strings.TrimSuffix(slice, ".slice")
	if stem == "" || stem == "-" {
		return ""
	}
	var path, prefix string
	for part := range strings.SplitSeq(stem, "-") {
		prefix += part
		path += "/" + prefix + ".slice"
		prefix += "-"
	}
	return path
}

func (u Unit) fileState() string {
	switch {
	case u.Masked:
		return "masked"
	case u.Transient:
		return "transient"
	case u.FileState != "":
		return u.FileState
	case len(u.WantedBy)+len(u.RequiredBy)+len(u.Aliases) > 0:
		return "enabled"
	}
	return "static"
}

// instance makes NAME@INSTANCE.TYPE out of a template.
func (u Unit) instance(name string) Unit {
	i, j := strings.IndexByte(name, '@'), strings.LastIndexByte(name, '.')
	expand := strings.NewReplacer("%i", name[i+1:j], "%I", name[i+1:j])
	out := u
	out.Name = name
	out.Aliases = nil
	out.Slice = expand.Replace(u.Slice)
	out.Description = expand.Replace(u.Description)
	for _, list := range []*[]string{&out.Wants, &out.Requires, &out.BindsTo, &out.PartOf, &out.After} {
		*list = slices.Clone(*list)
		for k, n := range *list {
			(*list)[k] = expand.Replace(n)
		}
	}
	return out
}
