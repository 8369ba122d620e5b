package testhost

import (
	"encoding/binary"
	"maps"
	"strings"
	"time"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

// changingProperties are those of Unit that emit a signal with their value.
var changingProperties = []string{
	"ActiveState", "FreezerState", "SubState", "StateChangeTimestamp", "StateChangeTimestampMonotonic",
	"InactiveExitTimestamp", "ActiveEnterTimestamp", "ActiveExitTimestamp", "InactiveEnterTimestamp",
	"Job", "ConditionResult", "AssertResult", "InvocationID",
}

func managerProperties(m *sim.Model) map[string]any {
	units, failed := m.CountUnits()
	return map[string]any{
		"Version":        "257.8-1~deb13u2",
		"Features":       "+PAM +AUDIT +SELINUX +APPARMOR",
		"Architecture":   "x86-64",
		"Virtualization": "",
		"Tainted":        "",
		"SystemState":    m.SystemState(),
		"NNames":         uint32(units),
		"NFailedUnits":   uint32(failed),
		"NJobs":          uint32(len(m.Jobs())),
		"Progress":       1.0,
		"ControlGroup":   "",
		"UnitPath":       []string{"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"},
	}
}

// unitProperties are those of Unit and of the unit's own type.
func unitProperties(u sim.UnitStatus) map[string]map[string]any {
	kind := sim.TypeOf(u.Name)
	return map[string]map[string]any{
		unitInterface: commonProperties(u),
		systemdName + "." + strings.ToUpper(kind[:1]) + kind[1:]: typeProperties(u, kind),
	}
}

func commonProperties(u sim.UnitStatus) map[string]any {
	since := uint64(u.Since.UnixMicro())
	props := map[string]any{
		"Id": u.Name, "Names": u.Names, "Following": "", "Description": description(u),
		"LoadState": u.LoadState, "ActiveState": u.ActiveState, "SubState": u.SubState, "FreezerState": "running",
		"FragmentPath": fragment(u), "SourcePath": "", "DropInPaths": []string{},
		"UnitFileState": u.FileState, "UnitFilePreset": "enabled",
		"StateChangeTimestamp": since, "StateChangeTimestampMonotonic": since,
		"InactiveExitTimestamp": uint64(0), "ActiveEnterTimestamp": uint64(0),
		"ActiveExitTimestamp": uint64(0), "InactiveEnterTimestamp": uint64(0),
		"CanStart": u.LoadState == "loaded" && !u.RefuseManualStart, "CanStop": !u.RefuseManualStop,
		"CanReload": u.CanReload, "CanIsolate": u.AllowIsolate, "CanFreeze": false,
		"Job":              jobReference{u.Job.ID, jobPath(u.Job.ID)},
		"StopWhenUnneeded": false, "RefuseManualStart": u.RefuseManualStart, "RefuseManualStop": u.RefuseManualStop,
		"AllowIsolate": u.AllowIsolate, "DefaultDependencies": !u.NoDefaultDependencies,
		"IgnoreOnIsolate": u.IgnoreOnIsolate, "NeedDaemonReload": u.NeedReload, "Transient": u.Transient,
		"Perpetual": u.Name == "-.slice", "ConditionResult": true, "AssertResult": true,
		"JobTimeoutUSec": ^uint64(0), "InvocationID": invocation(u.Invocation),
		"LoadError": loadError(u), "PropagatesStopTo": []string{}, "StopPropagatedFrom": []string{},
		"Upholds": []string{}, "UpheldBy": []string{}, "OnFailure": []string{}, "OnSuccess": []string{},
	}
	switch u.ActiveState {
	case "active":
		props["ActiveEnterTimestamp"], props["InactiveExitTimestamp"] = since, since
	case "inactive", "failed":
		if u.Invocation != 0 {
			props["InactiveEnterTimestamp"], props["ActiveExitTimestamp"] = since, since
		}
	}
	for relation, names := range u.Relations {
		if names == nil {
			names = []string{}
		}
		props[relation] = names
	}
	return props
}

func fragment(u sim.UnitStatus) string {
	switch {
	case u.LoadState == "not-found":
		return ""
	case u.LoadState == "masked":
		return "/etc/systemd/system/" + u.Name
	case u.Transient:
		return "/run/systemd/transient/" + u.Name
	}
	return "/usr/lib/systemd/system/" + u.Name
}

type loadErrorValue struct{ Name, Text string }

func loadError(u sim.UnitStatus) loadErrorValue {
	switch u.LoadState {
	case "masked":
		return loadErrorValue{sim.ErrUnitMasked, "Unit " + u.Name + " is masked."}
	case "not-found":
		return loadErrorValue{sim.ErrNoSuchUnit, "Unit " + u.Name + " not found."}
	case "error":
		return loadErrorValue{"org.freedesktop.systemd1.BadUnitSetting", "Unit " + u.Name + " has a bad unit file setting."}
	}
	return loadErrorValue{}
}

func invocation(n uint64) []byte {
	if n == 0 {
		return []byte{}
	}
	return binary.BigEndian.AppendUint64(make([]byte, 8, 16), n)
}

func typeProperties(u sim.UnitStatus, kind string) map[string]any {
	props := map[string]any{}
	maps.Copy(props, u.Settings)
	switch kind {
	case "service":
		maps.Copy(props, serviceProperties(u))
	case "scope":
		props["Controller"], props["Result"] = "org.freedesktop.login1", u.Result
	case "socket":
		props["Result"], props["Accept"], props["NConnections"] = u.Result, true, uint32(0)
	case "timer":
		props["Result"], props["NextElapseUSecRealtime"] = u.Result, uint64(u.Since.Add(time.Hour).UnixMicro())
		if triggers := u.Relations["Triggers"]; len(triggers) > 0 {
			props["Unit"] = triggers[0]
		}
	case "mount", "automount", "swap", "path":
		props["Result"] = u.Result
	}
	switch kind {
	case "service", "scope", "slice", "socket", "mount", "swap":
		props["ControlGroup"], props["Slice"] = u.ControlGroup, sliceOf(u)
	}
	return props
}

func serviceProperties(u sim.UnitStatus) map[string]any {
	kind := "exec"
	if u.Oneshot {
		kind = "oneshot"
	}
	status := int32(0)
	if u.Result == "exit-code" {
		status = 1
	}
	return map[string]any{
		"Type": kind, "Restart": "no", "RemainAfterExit": u.RemainAfterExit, "Result": u.Result,
		"MainPID": uint32(u.MainPID), "ControlPID": uint32(0), "ExecMainPID": uint32(u.MainPID),
		"ExecMainStatus": status, "NRestarts": uint32(0), "StatusText": "",
		"TimeoutStartUSec": uint64(90_000_000), "TimeoutStopUSec": uint64(90_000_000),
	}
}

func sliceOf(u sim.UnitStatus) string {
	for _, name := range u.Relations["Requires"] {
		if sim.TypeOf(name) == "slice" {
			return name
		}
	}
	return ""
}
