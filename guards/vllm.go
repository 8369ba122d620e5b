package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// vllmDrainable blocks where a drain would be against the policy or never end.
// Requests in flight alone are what a drain is for.
func vllmDrainable(p policy.Policy, s observer.Snapshot, _ Request) finding {
	if !s.Systemd.Known() {
		return cannotTell("systemd could not be asked: "+unread(s.Systemd.Reading),
			"look at `systemctl status` and ask again")
	}
	for _, name := range observer.VLLMUnits(p, s.Systemd) {
		if _, seen := s.Systemd.Units[name]; !seen {
			return cannotTell(name+" has not been read", "ask again")
		}
	}
	name, unit := observer.RunningVLLM(p, s.Systemd)
	switch {
	case name == "":
		return pass("vLLM does not run, so that there is nothing to drain")
	case unit.SubState == "stop-sigkill" || unit.SubState == "final-sigkill":
		return block(fmt.Sprintf("%s is stuck while it is stopped (%s)", name, unit.SubState),
			"look at `systemctl status "+name+"` for a process that cannot be killed")
	case unit.ActiveState == "deactivating":
		return pass(fmt.Sprintf("%s is %s, so that there is nothing to drain", name, unit.ActiveState))
	case s.Inference.Known() && s.Inference.NotListening:
		return pass(name + " does not listen, so that it has nothing in flight")
	case !unit.Active():
		return pass(fmt.Sprintf("%s is %s; what it serves is waited for", name, unit.ActiveState))
	}
	return judgeRequests(p, name, s.Inference)
}

func judgeRequests(p policy.Policy, unit string, i observer.Inference) finding {
	n, known := i.Requests()
	remedy := "look at " + p.VLLM.MetricsURL + " and `systemctl status dubnium-probe-inference.socket`, or stop " +
		unit + " yourself"
	switch {
	case !i.Known():
		return cannotTell("how much vLLM has in flight could not be found out: "+unread(i.Reading), remedy)
	case !known:
		return cannotTell("how much vLLM has in flight could not be found out: its metrics do not say", remedy)
	case n > 0 && p.Guards.Drain == policy.DrainNever:
		return block(fmt.Sprintf("vLLM has %.0f requests in flight, and the policy has guards.drain = %q", n,
			p.Guards.Drain),
			"wait until it has none")
	case p.Guards.MaxWaiting > 0 && *i.Waiting > float64(p.Guards.MaxWaiting):
		return block(fmt.Sprintf(
			"%.0f requests wait in vLLM's queue, more than %d: more comes in than it gets done", *i.Waiting,
			p.Guards.MaxWaiting,
		),
			"keep new requests away from it, or raise guards.max_waiting in the policy")
	}
	return pass(fmt.Sprintf("vLLM has %.0f requests in flight, and may be drained", n))
}
