package guards

import (
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// judgeImpact judges what the plan does to units beyond those it names. It takes
// what may happen for what will: whether systemd spares a unit in the order of
// this boot is found out too late.
func judgeImpact(p policy.Policy, r Request) (f finding, stands bool) {
	b := r.Impact
	if !b.Known() {
		return unitsUnread(b), true
	}
	if i := b.Isolation; i != nil && i.Refused != "" {
		return block("systemd would refuse to isolate "+i.Target+": "+i.Refused, "mend that in the units; `systemctl cat "+i.Target+"` shows the target's"), true
	}
	if lost := b.AffectedOf(p.MustSurvive); len(lost) > 0 {
		return judgeAffected(b, lost), true
	}
	if i := b.Isolation; i != nil && i.RefusalPossible != "" {
		return cannotTell("systemd may refuse to isolate "+i.Target+": "+i.RefusalPossible,
			"mend that in the units; which it does depends on the order in which it looks at them"), true
	}
	for _, job := range b.Jobs {
		if job.Unit == b.ID(p.Units.DesktopTarget) || job.Unit == b.ID(p.Units.ComputeTarget) {
			b.CanceledJobs = append([]unitgraph.QueuedJob{job}, b.CanceledJobs...)
		}
	}
	return judgeQueued(b, b.CanceledJobs)
}

func unitsUnread(b unitgraph.Impact) finding {
	return cannotTell("what else would stop could not be found out: "+unread(b.Reading), "look at `systemctl status` and ask again")
}

func judgeAffected(b unitgraph.Impact, lost []unitgraph.StoppedUnit) finding {
	f := block(fmt.Sprintf("%s and must survive", describeStop(b, lost[0])), remedyFor(b, lost[0]))
	for _, c := range lost {
		f.evidence = append(f.evidence, describeStop(b, c))
	}
	return f
}

// describeStop says what happens to a unit, and why.
func describeStop(b unitgraph.Impact, c unitgraph.StoppedUnit) string {
	would := "would stop"
	if c.Possible {
		would = "may stop"
	}
	line := fmt.Sprintf("%s %s (%s)", c.Unit, would, c.Why())
	if b.Isolation != nil {
		line = "on the way to " + b.Isolation.Target + " " + line
	}
	return line
}

// remedyFor says what would keep the unit up.
func remedyFor(b unitgraph.Impact, c unitgraph.StoppedUnit) string {
	const give = ", or take it out of must_survive in the policy"
	switch {
	case c.Cause == unitgraph.CauseNotWanted && b.Isolation != nil:
		return fmt.Sprintf("run `systemctl add-wants %s %s`, or give it IgnoreOnIsolate=yes", b.Isolation.Target, c.Unit) + give
	case c.Cause == unitgraph.CauseStep:
		return "take it out of must_survive in the policy, or have the policy name another unit"
	}
	return fmt.Sprintf("take apart what ties it to %s (`systemctl show %s`)", c.By, c.Unit) + give
}

// judgeQueued blocks while one of these jobs is queued, which the plan would have
// systemd cancel, and somebody asked for.
//
// What isolate cancels beside that is no reason: each oneshot that runs has a
// start job, and is told as a unit that stops.
func judgeQueued(b unitgraph.Impact, contrary []unitgraph.QueuedJob) (f finding, stands bool) {
	if slices.ContainsFunc(b.Jobs, func(j unitgraph.QueuedJob) bool { return j.Unit == shutdown && j.Type == "start" }) {
		return block("the machine is on its way down", "wait until it is up again"), true
	}
	if len(contrary) == 0 {
		return finding{}, false
	}
	f = block(fmt.Sprintf("a %s job is queued for %s", contrary[0].Type, contrary[0].Unit),
		"wait for it, or cancel it: `systemctl list-jobs` has its number")
	for _, job := range contrary {
		f.evidence = append(f.evidence, job.Type+" "+job.Unit)
	}
	return f, true
}

// shutdown is what every way of ending the machine pulls in, by jobs that nothing
// reverses (systemd.special(7)).
const shutdown = "shutdown.target"

// judgeStoppedWithSessions blocks when a job stands in the way of a session's end. logind
// stops a scope with the mode fail, so that systemd refuses it while a contrary job
// is queued for any unit that it takes along.
func judgeStoppedWithSessions(b unitgraph.Impact) (f finding, stands bool) {
	if !b.Known() {
		return unitsUnread(b), true
	}
	return judgeQueued(b, b.ConflictingJobs)
}
