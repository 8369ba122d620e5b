package guards

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// userJobsSafe blocks while user jobs run: processes that match the policy's lists, and
// holders of a shutdown inhibitor of logind, since a change of mode resembles a shutdown.
// It also blocks while NixOS switches to another configuration, which stops and starts
// units by itself.
func userJobsSafe(p policy.Policy, s observer.Snapshot, r Request) finding {
	if !s.Logind.Known() {
		return unreadLogind(s)
	}
	if f, blocks := judgeRebuild(s.Locks); blocks {
		return f
	}
	for _, i := range s.Logind.Inhibitors {
		if (i.Mode == "block" || i.Mode == "block-weak") && slices.Contains(strings.Split(i.What, ":"), "shutdown") {
			f := block(fmt.Sprintf("%s (pid %d, uid %d) inhibits shutdown: %s", i.Who, i.PID, i.UID, i.Why),
				"wait for it; `systemd-inhibit --list` shows all inhibitors")
			f.evidence = []string{f.reason}
			return f
		}
	}
	jobs := s.Processes.Jobs
	switch {
	case !s.Processes.Known():
		return cannotTell("cannot read the processes: "+unread(s.Processes.Reading), seeHolders)
	case !jobs.Complete:
		reason := jobs.Reason
		if reason == "" {
			reason = "the holders probe reports no reason"
		}
		return cannotTell("cannot determine whether user jobs run: "+reason, seeHolders)
	}
	if f, blocks := judgeJobs(jobs, s.Logind, r); blocks {
		return f
	}
	if f, blocks := judgeUnread(jobs, s.Logind, r); blocks {
		return f
	}
	if jobs.Truncated > 0 {
		return cannotTell(fmt.Sprintf("%d more jobs could not be examined", jobs.Truncated),
			"wait for them to end, and retry")
	}
	return pass("no user jobs are running")
}

func judgeRebuild(l observer.Locks) (f finding, blocks bool) {
	switch {
	case !l.Known():
		return cannotTell("cannot determine whether nixos-rebuild runs: "+unread(l.Reading),
			"see `journalctl -u dubniumd`, and retry"), true
	case l.Rebuild.Held:
		f = block(
			fmt.Sprintf("NixOS is switching to another configuration: pid %d holds %s", l.Rebuild.PID, l.Rebuild.Path),
			"wait for nixos-rebuild to end",
		)
		f.evidence = []string{f.reason}
		return f, true
	}
	return finding{}, false
}

func judgeJobs(jobs observer.Jobs, l observer.Logind, r Request) (f finding, blocks bool) {
	var found []string
	for _, job := range jobs.List {
		if counts(job, l, r) {
			found = append(found, job.String()+" runs")
		}
	}
	if len(found) == 0 {
		return finding{}, false
	}
	f = block(found[0], "wait for it to end, or add it to guards.not_jobs in the policy")
	if more := len(found) - 1; more > 0 {
		f.reason += fmt.Sprintf(", and %d more", more)
	}
	f.evidence = found
	return f, true
}

// judgeUnread reports that it cannot tell while a process whose command line could not be
// read may be a job that counts.
func judgeUnread(jobs observer.Jobs, l observer.Logind, r Request) (f finding, blocks bool) {
	others := jobs.MoreUnread
	var found []string
	for _, u := range jobs.Unread {
		if u.Truncated > 0 || counts(observer.Job{Process: u.Process}, l, r) {
			found, others = append(found, "cannot read the command line of "+u.String()), others+1+u.Truncated
		}
	}
	if others == 0 {
		return finding{}, false
	}
	reason := fmt.Sprintf("cannot read the command lines of %d processes", others)
	if len(found) > 0 {
		reason = found[0]
		if others > 1 {
			reason += fmt.Sprintf(", and of %d more", others-1)
		}
	}
	f = cannotTell("cannot determine whether user jobs run: "+reason,
		"end that process, or wait until it can be read")
	f.evidence = found
	return f, true
}

// counts reports whether a job blocks. One in a remote session of the requester does not:
// a change of mode ends graphical sessions only, so that it continues.
func counts(job observer.Job, l observer.Logind, r Request) bool {
	i := slices.IndexFunc(l.Sessions, func(s observer.Session) bool { return job.Session != "" && s.ID == job.Session })
	remote := i >= 0 && l.Sessions[i].Remote
	switch {
	case remote && l.Sessions[i].UID == r.UID:
		return false
	case job.Remote:
		return remote
	}
	return true
}

// noInhibitor blocks while a client holds a block inhibitor of the daemon. userJobsSafe
// judges those of logind.
func noInhibitor(_ policy.Policy, _ observer.Snapshot, r Request) finding {
	var held []string
	for _, i := range r.Inhibitors {
		if i.How == Block && i.Applies(r.Target) {
			held = append(held, fmt.Sprintf("%s (uid %d) blocks it: %s", i.Who, i.UID, i.Why))
		}
	}
	if len(held) == 0 {
		return pass("no inhibitor blocks it")
	}
	f := block(held[0], "wait for it; `modectl inhibit --list` shows all inhibitors")
	if more := len(held) - 1; more > 0 {
		f.reason += fmt.Sprintf(", and %d more", more)
	}
	f.evidence = held
	return f
}
