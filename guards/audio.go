package guards

import (
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// audioIdle blocks while a user plays or records audio, and while that cannot be
// determined for every user.
func audioIdle(p policy.Policy, s observer.Snapshot, _ Request) finding {
	fact := observer.Derive(p, s)[observer.AudioActive]
	switch fact.Truth {
	case observer.True:
		f := block(fact.Reason, "stop playback and recording, and quit the programs that hold the sound hardware")
		f.evidence = observer.AudioEvidence(p.Audio, s)
		return f
	case observer.False:
		return pass(fact.Reason)
	}
	return cannotTell("cannot determine whether audio is playing or recording: "+fact.Reason,
		"retry in a moment; see `modectl explain` and `systemctl status 'dubnium-probe-*'`")
}
