package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// limit is a value with its threshold. A threshold of 0 disables the check.
type limit struct {
	what      string
	measure   observer.Measure
	threshold float64
	least     bool // the threshold is a minimum, not a maximum
	unit      string
	scale     float64 // of the unit
	key       string  // the policy key of the threshold
}

func (l limit) exceeded() bool {
	if l.least {
		return *l.measure.Value < l.threshold*l.scale
	}
	return *l.measure.Value > l.threshold*l.scale
}

func (l limit) text() string {
	bound := "maximum"
	if l.least {
		bound = "minimum"
	}
	value := *l.measure.Value / l.scale
	return fmt.Sprintf("%s is %.4g%s, %s %.4g%s", l.what, value, l.unit, bound, l.threshold, l.unit)
}

// judgeLimits blocks on a limit that is exceeded, and only then reports one whose value
// is unknown.
func judgeLimits(limits []limit, reading observer.Reading, good, remedy string) finding {
	f, unknown := pass(good), cannotTell("", "")
	for _, l := range limits {
		switch {
		case l.threshold == 0:
		case !reading.Known():
			return cannotTell(l.what+" is unknown: "+unread(reading), "check /proc, and retry")
		case l.measure.Value == nil:
			unknown.reason = l.what + " is unknown: " + l.measure.Reason
			unknown.remedy = "fix that, or disable this check with " + l.key + " = 0 in the policy"
		case l.exceeded():
			f.evidence = append(f.evidence, l.text())
			if f.answer == observer.True {
				f.answer, f.reason, f.remedy = observer.False, l.text(), remedy+", or change "+l.key+" in the policy"
			}
		default:
			f.evidence = append(f.evidence, l.text())
		}
	}
	if f.answer == observer.True && unknown.reason != "" {
		return unknown
	}
	return f
}

// cpuLoadSafe blocks while the machine is busy.
func cpuLoadSafe(p policy.Policy, s observer.Snapshot, _ Request) finding {
	g := p.Guards
	return judgeLimits([]limit{
		{
			what: "load per core", measure: s.Procfs.LoadPerCore, threshold: g.MaxLoadPerCore, scale: 1,
			key: "guards.max_load_per_core",
		},
		{
			what: "CPU pressure", measure: s.Procfs.PressureCPU, threshold: g.MaxCPUPressure, unit: " %", scale: 1,
			key: "guards.max_cpu_pressure",
		},
		{
			what: "I/O pressure", measure: s.Procfs.PressureIO, threshold: g.MaxIOPressure, unit: " %", scale: 1,
			key: "guards.max_io_pressure",
		},
	}, s.Procfs.Reading, "load and pressure are below the limits", "wait until the machine is less busy")
}

// memoryHeadroom blocks while less memory is available than the mode needs.
func memoryHeadroom(p policy.Policy, s observer.Snapshot, r Request) finding {
	g := p.Guards
	return judgeLimits([]limit{
		{
			what: "available memory", measure: s.Procfs.MemAvailable, threshold: float64(g.MinMemoryMiB.Of(r.Target)),
			least: true, unit: " MiB", scale: 1 << 20, key: "guards.min_memory_mib." + string(r.Target),
		},
		{
			what: "memory pressure", measure: s.Procfs.PressureMemory, threshold: g.MaxMemoryPressure, unit: " %",
			scale: 1, key: "guards.max_memory_pressure",
		},
	}, s.Procfs.Reading, "enough memory is available for "+string(r.Target), "end processes that use memory")
}
