package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// targetReachable blocks what cannot or must not be reached: a mode that the policy's
// transitions do not allow, a unit that is missing, masked or cannot be isolated, a
// queued job that the plan would cancel, a unit of must_survive that would stop.
func targetReachable(p policy.Policy, s observer.Snapshot, r Request) finding {
	if !s.Systemd.Known() {
		return unreadSystemd(s)
	}
	leavesCompute := s.Systemd.Units[p.Units.ComputeTarget].Active()
	if !p.Transitions.Allows(r.Target, leavesCompute) {
		return block(
			fmt.Sprintf("the policy has transitions = %q, which does not include %s", p.Transitions, r.Target),
			"raise transitions in the policy")
	}
	target := p.Target(r.Target)
	for _, name := range needed(p, r.Target) {
		if f, ok := loadable(s.Systemd, name); !ok {
			return f
		}
	}
	u := s.Systemd.Units[target]
	if isolates := r.Target == policy.Compute || leavesCompute; isolates && !u.AllowIsolate {
		return block(target+" cannot be isolated", "give it AllowIsolate=yes and run `systemctl daemon-reload`")
	}
	if u.Job != 0 {
		return block(fmt.Sprintf("job %d is queued for %s", u.Job, target),
			"wait for it, or cancel it with `systemctl cancel "+fmt.Sprint(u.Job)+"`")
	}
	if f, blocks := judgeImpact(p, r); blocks {
		return f
	}
	return pass(target + " can be reached")
}

// needed lists the units that a mode cannot be reached without. The way to desktop does
// not depend on the units that the policy requires there: without them it ends degraded.
func needed(p policy.Policy, mode policy.Mode) []string {
	units := []string{p.Target(mode)}
	switch {
	case mode == policy.Desktop:
		return units
	case mode == policy.StudioLocal:
		units = append(units, p.Units.AudioPriority, p.Units.StudioPolicy)
	case p.VLLMUnit(mode) != "":
		units = append(units, p.VLLMUnit(mode))
	}
	return append(units, p.Contract(mode).Required...)
}

// loadable returns false and the finding for a unit that systemd would not start.
func loadable(s observer.Systemd, name string) (finding, bool) {
	u, seen := s.Units[name]
	switch {
	case !seen:
		return cannotTell(name+" has not been read", "retry"), false
	case u.LoadState == "masked":
		return block(name+" is masked", "run `systemctl unmask "+name+"`"), false
	case u.LoadState == "not-found":
		return block(name+" does not exist", "install it, or name the right unit in the policy"), false
	case !u.Loaded():
		return block(fmt.Sprintf("%s cannot be loaded (%s)", name, u.LoadState), "see `systemctl status "+name+"`"),
			false
	}
	return finding{}, true
}

const seeSystemd = "see `systemctl status`, and retry"

func unreadSystemd(s observer.Snapshot) finding {
	return cannotTell("cannot read systemd: "+unread(s.Systemd.Reading), seeSystemd)
}

func unread(r observer.Reading) string {
	if !r.WasRead() {
		return "not read yet"
	}
	return r.Reason
}
