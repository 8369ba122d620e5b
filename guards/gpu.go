package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// gpuDisplayReleased blocks while any process but the permitted ones keeps a
// node of a display GPU open. Evidence that is missing never passes: a GPU that
// is released is proved, not assumed.
func gpuDisplayReleased(p policy.Policy, s observer.Snapshot, _ Request) finding {
	fact := observer.Derive(p, s)[observer.DisplayReleased]
	switch fact.Truth {
	case observer.True:
		return pass(fact.Reason)
	case observer.False:
		f := block(fact.Reason, "end that process, or name its unit under gpu.permitted_holders in the policy")
		for _, h := range observer.ForeignHolders(p, s.Holders) {
			f.evidence = append(f.evidence, fmt.Sprintf("%s: pid %d (%s), unit %s, session %q, nodes %v",
				h.GPU, h.PID, h.Command, h.Unit, h.Session, h.Nodes))
		}
		return f
	}
	return cannotTell("who holds the display GPU could not be found out: "+fact.Reason,
		"look at `systemctl status dubnium-probe-holders.socket`")
}
