package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// limit is one number against its threshold. A threshold of 0 is not judged.
type limit struct {
	what      string
	measure   observer.Measure
	threshold float64
	least     bool // the threshold is the least that is enough, not the most that is allowed
	unit      string
	scale     float64 // of the unit
	key       string  // the policy's, of the threshold
}

func (l limit) exceeded() bool {
	if l.least {
		return *l.measure.Value < l.threshold*l.scale
	}
	return *l.measure.Value > l.threshold*l.scale
}

func (l limit) text() string {
	relation := "allowed"
	if l.least {
		relation = "needed"
	}
	value := *l.measure.Value / l.scale
	return fmt.Sprintf("%s is %.4g%s, %s is %.4g%s", l.what, value, l.unit, relation, l.threshold, l.unit)
}

// judgeLimits blocks on what is certain before it complains about what is not
// known.
func judgeLimits(limits []limit, reading observer.Reading, good, remedy string) finding {
	f, unknown := pass(good), cannotTell("", "")
	for _, l := range limits {
		switch {
		case l.threshold == 0:
		case !reading.Known():
			return cannotTell(l.what+" is not known: "+unread(reading), "look at /proc, and ask again")
		case l.measure.Value == nil:
			unknown.reason = l.what + " is not known: " + l.measure.Reason
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

// cpuLoadSafe blocks while the machine is busy: somebody works on it, whoever it
// is.
func cpuLoadSafe(p policy.Policy, s observer.Snapshot, _ Request) finding {
	g := p.Guards
	return judgeLimits([]limit{
		{
			what: "the load for each core", measure: s.Procfs.LoadPerCore, threshold: g.MaxLoadPerCore, scale: 1,
			key: "guards.max_load_per_core",
		},
		{
			what: "the pressure on the processors", measure: s.Procfs.PressureCPU, threshold: g.MaxCPUPressure,
			unit:  " %",
			scale: 1, key: "guards.max_cpu_pressure",
		},
		{
			what: "the pressure on the disks", measure: s.Procfs.PressureIO, threshold: g.MaxIOPressure, unit: " %",
			scale: 1,
			key:   "guards.max_io_pressure",
		},
	}, s.Procfs.Reading, "the machine is not too busy", "wait until it is less busy")
}

// memoryHeadroom blocks while there is less memory than the mode needs.
func memoryHeadroom(p policy.Policy, s observer.Snapshot, r Request) finding {
	g := p.Guards
	return judgeLimits([]limit{
		{
			what: "the available memory", measure: s.Procfs.MemAvailable,
			threshold: float64(g.MinMemoryMiB.Of(r.Target)),
			least:     true, unit: " MiB", scale: 1 << 20, key: "guards.min_memory_mib." + string(r.Target),
		},
		{
			what: "the pressure on memory", measure: s.Procfs.PressureMemory, threshold: g.MaxMemoryPressure,
			unit:  " %",
			scale: 1, key: "guards.max_memory_pressure",
		},
	}, s.Procfs.Reading, "there is enough memory for "+string(r.Target), "end what uses memory")
}
