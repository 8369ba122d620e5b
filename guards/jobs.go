package guards

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// userJobsSafe blocks while somebody's work is under way: by the policy's lists of
// processes, by who keeps logind from shutting down, which a change of mode
// resembles, and while NixOS switches to another configuration, which stops and
// starts units behind everybody's back.
func userJobsSafe(p policy.Policy, s observer.Snapshot, r Request) finding {
	if !s.Logind.Known() {
		return cannotTell("logind could not be asked: "+unread(s.Logind.Reading),
			"look at `systemctl status systemd-logind` and ask again")
	}
	if f, blocks := judgeRebuild(s.Locks); blocks {
		return f
	}
	for _, i := range s.Logind.Inhibitors {
		if (i.Mode == "block" || i.Mode == "block-weak") && slices.Contains(strings.Split(i.What, ":"), "shutdown") {
			f := block(fmt.Sprintf("%s (pid %d, uid %d) blocks shutting down: %s", i.Who, i.PID, i.UID, i.Why),
				"wait for it; `systemd-inhibit --list` shows who holds what")
			f.evidence = []string{f.reason}
			return f
		}
	}
	jobs := s.Processes.Jobs
	switch {
	case !s.Processes.Known():
		return cannotTell("what runs could not be found out: "+unread(s.Processes.Reading),
			"look at `systemctl status dubnium-probe-holders.socket`")
	case !jobs.Complete:
		reason := jobs.Reason
		if reason == "" {
			reason = "the holders probe does not say"
		}
		return cannotTell("whether somebody's work is under way could not be found out: "+reason,
			"look at `systemctl status dubnium-probe-holders.socket`")
	}
	if f, blocks := judgeJobs(jobs, s.Logind, r); blocks {
		return f
	}
	if f, blocks := judgeUnread(jobs, s.Logind, r); blocks {
		return f
	}
	if jobs.Truncated > 0 {
		return cannotTell(
			fmt.Sprintf("there are %d jobs more than could be looked at", jobs.Truncated),
			"wait for them to end, and ask again",
		)
	}
	return pass("no user jobs are running")
}

func judgeRebuild(l observer.Locks) (f finding, blocks bool) {
	switch {
	case !l.Known():
		return cannotTell("whether a nixos-rebuild is under way could not be found out: "+unread(l.Reading),
			"look at `journalctl -u dubniumd` and ask again"), true
	case l.Rebuild.Held:
		f = block(
			fmt.Sprintf("NixOS switches to another configuration: pid %d holds %s", l.Rebuild.PID, l.Rebuild.Path),
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
	f = block(found[0], "wait for it to end, or name it under guards.not_jobs in the policy")
	if more := len(found) - 1; more > 0 {
		f.reason += fmt.Sprintf(", and %d more", more)
	}
	f.evidence = found
	return f, true
}

// judgeUnread: a process whose command line could not be read may be a job, unless it
// would not count as one.
func judgeUnread(jobs observer.Jobs, l observer.Logind, r Request) (f finding, blocks bool) {
	others := jobs.MoreUnread
	var found []string
	for _, u := range jobs.Unread {
		if u.Truncated > 0 || counts(observer.Job{Process: u.Process}, l, r) {
			found, others = append(found, u.String()+" does not let its command line be read"), others+1+u.Truncated
		}
	}
	if others == 0 {
		return finding{}, false
	}
	reason := fmt.Sprintf("the command lines of %d processes could not be read", others)
	if len(found) > 0 {
		reason = found[0]
		if others > 1 {
			reason += fmt.Sprintf(", nor do %d more processes", others-1)
		}
	}
	f = cannotTell(
		"whether somebody's work is under way could not be found out: "+reason,
		"end that process, or wait until it answers",
	)
	f.evidence = found
	return f, true
}

// counts: what the requester does in a remote session of their own they know of,
// and it goes on: a change of mode ends the sessions at the screen.
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

// noInhibitor blocks while somebody holds a block inhibitor with the daemon. Those
// of logind are userJobsSafe's.
func noInhibitor(_ policy.Policy, _ observer.Snapshot, r Request) finding {
	var held []string
	for _, i := range r.Inhibitors {
		if i.How == Block && i.Applies(r.Target) {
			held = append(held, fmt.Sprintf("%s (uid %d) blocks it: %s", i.Who, i.UID, i.Why))
		}
	}
	if len(held) == 0 {
		return pass("nobody holds an inhibitor against it")
	}
	f := block(held[0], "wait for it; `modectl inhibit --list` shows who holds what")
	if more := len(held) - 1; more > 0 {
		f.reason += fmt.Sprintf(", and %d more", more)
	}
	f.evidence = held
	return f
}
