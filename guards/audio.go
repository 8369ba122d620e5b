package guards

import (
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// audioIdle blocks while somebody plays or records, and while that cannot be told
// of everybody who could.
func audioIdle(p policy.Policy, s observer.Snapshot, _ Request) finding {
	fact := observer.Derive(p, s)[observer.AudioActive]
	switch fact.Truth {
	case observer.True:
		f := block(fact.Reason, "stop playing and recording, and quit what holds the sound hardware")
		f.evidence = observer.AudioEvidence(p.Audio, s)
		return f
	case observer.False:
		return pass(fact.Reason)
	}
	return cannotTell("whether anybody plays or records could not be found out: "+fact.Reason,
		"ask again in a moment, and look at `modectl explain` and `systemctl status 'dubnium-probe-*'`")
}
