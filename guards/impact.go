package guards

import (
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// judgeImpact judges the effect of the plan on units that it does not name. The impact is that of the worst
// case: which case applies is known only when systemd isolates.
func judgeImpact(p policy.Policy, r Request) (f finding, blocks bool) {
	b := r.Impact
	if !b.Known() {
		return unitsUnread(b), true
	}
	if i := b.Isolation; i != nil && i.Refused != "" {
		return block("systemd would refuse to isolate "+i.Target+": "+i.Refused,
			"fix that in the unit files; `systemctl cat "+i.Target+"` shows that of the target"), true
	}
	if affected := b.AffectedOf(p.MustSurvive); len(affected) > 0 {
		return judgeAffected(b, affected), true
	}
	canceled := b.CanceledJobs
	for _, job := range b.Jobs {
		if job.Unit == b.ID(p.Units.DesktopTarget) || job.Unit == b.ID(p.Units.ComputeTarget) {
			canceled = append([]unitgraph.QueuedJob{job}, canceled...)
		}
	}
	return judgeQueued(b, canceled)
}

func unitsUnread(b unitgraph.Impact) finding {
	return cannotTell("cannot determine which units would stop: "+unread(b.Reading), seeSystemd)
}

func judgeAffected(b unitgraph.Impact, affected []unitgraph.StoppedUnit) finding {
	f := block(describeStop(b, affected[0])+" and must survive", remedyFor(b, affected[0]))
	for _, c := range affected {
		f.evidence = append(f.evidence, describeStop(b, c))
	}
	return f
}

// describeStop describes the stop of a unit, with its cause.
func describeStop(b unitgraph.Impact, c unitgraph.StoppedUnit) string {
	line := fmt.Sprintf("%s would stop (%s)", c.Unit, c.Why())
	if b.Isolation != nil {
		line = "on the way to " + b.Isolation.Target + " " + line
	}
	return line
}

// remedyFor returns what would keep the unit active.
func remedyFor(b unitgraph.Impact, c unitgraph.StoppedUnit) string {
	const otherwise = ", or remove it from must_survive in the policy"
	switch {
	case c.Cause == unitgraph.CauseNotWanted && b.Isolation != nil:
		return fmt.Sprintf("run `systemctl add-wants %s %s`, or give it IgnoreOnIsolate=yes",
			b.Isolation.Target, c.Unit) + otherwise
	case c.Cause == unitgraph.CauseStep:
		return "remove it from must_survive in the policy, or name another unit there for the step"
	}
	return fmt.Sprintf("remove its dependency on %s (`systemctl show %s`)", c.By, c.Unit) + otherwise
}

// judgeQueued blocks while one of these jobs is queued: they were requested, and the plan would have systemd
// cancel them.
//
// Other jobs that isolate cancels do not block: a oneshot service that runs has a start job, and is listed as
// a unit that stops.
func judgeQueued(b unitgraph.Impact, jobs []unitgraph.QueuedJob) (f finding, blocks bool) {
	isShutdown := func(j unitgraph.QueuedJob) bool { return j.Unit == shutdown && j.Type == "start" }
	if slices.ContainsFunc(b.Jobs, isShutdown) {
		return block("the machine is shutting down", "wait until it is up again"), true
	}
	if len(jobs) == 0 {
		return finding{}, false
	}
	f = block(fmt.Sprintf("a %s job is queued for %s", jobs[0].Type, jobs[0].Unit),
		"wait for it, or cancel it: `systemctl list-jobs` shows its number")
	for _, job := range jobs {
		f.evidence = append(f.evidence, job.Type+" "+job.Unit)
	}
	return f, true
}

// shutdown is started by every kind of shutdown, by irreversible jobs (systemd.special(7)).
const shutdown = "shutdown.target"

// judgeStoppedWithSessions blocks when a queued job conflicts with the end of a session. logind stops a scope
// with the mode fail, which systemd refuses while such a job is queued for any unit that the stop propagates
// to.
func judgeStoppedWithSessions(b unitgraph.Impact) (f finding, blocks bool) {
	if !b.Known() {
		return unitsUnread(b), true
	}
	return judgeQueued(b, b.ConflictingJobs)
}
