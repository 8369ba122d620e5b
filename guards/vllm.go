package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// vllmDrainable blocks when the policy forbids a drain or the drain would not end.
// Requests in flight alone do not block: the drain waits for them.
func vllmDrainable(p policy.Policy, s observer.Snapshot, _ Request) finding {
	if !s.Systemd.Known() {
		return unreadSystemd(s)
	}
	for _, name := range observer.VLLMUnits(p, s.Systemd) {
		if _, seen := s.Systemd.Units[name]; !seen {
			return cannotTell(name+" has not been read", "retry")
		}
	}
	name, unit := observer.RunningVLLM(p, s.Systemd)
	switch {
	case name == "":
		return pass("vLLM does not run: nothing to drain")
	case unit.SubState == "stop-sigkill" || unit.SubState == "final-sigkill":
		return block(fmt.Sprintf("%s is stuck while it is stopped (%s)", name, unit.SubState),
			"see `systemctl status "+name+"` for a process that cannot be killed")
	case unit.ActiveState == "deactivating":
		return pass(fmt.Sprintf("%s is %s: nothing to drain", name, unit.ActiveState))
	case s.Inference.Known() && s.Inference.NotListening:
		return pass(name + " does not listen: no requests in flight")
	case !unit.Active():
		return pass(fmt.Sprintf("%s is %s; its requests can be drained", name, unit.ActiveState))
	}
	return judgeRequests(p, name, s.Inference)
}

func judgeRequests(p policy.Policy, unit string, i observer.Inference) finding {
	n, known := i.Requests()
	remedy := "see " + p.VLLM.MetricsURL + " and `systemctl status dubnium-probe-inference.socket`, or stop " + unit
	switch {
	case !i.Known():
		return cannotTell("cannot determine vLLM's requests in flight: "+unread(i.Reading), remedy)
	case !known:
		return cannotTell("cannot determine vLLM's requests in flight: its metrics do not have them", remedy)
	case n > 0 && p.Guards.Drain == policy.DrainNever:
		return block(fmt.Sprintf("vLLM has %.0f requests in flight, and the policy has guards.drain = %q", n,
			p.Guards.Drain),
			"wait until it has none")
	case p.Guards.MaxWaiting > 0 && *i.Waiting > float64(p.Guards.MaxWaiting):
		return block(fmt.Sprintf("vLLM has %.0f waiting requests, more than %d: the queue may never drain",
			*i.Waiting, p.Guards.MaxWaiting),
			"stop sending new requests, or raise guards.max_waiting in the policy")
	}
	return pass(fmt.Sprintf("vLLM has %.0f requests in flight, and may be drained", n))
}
