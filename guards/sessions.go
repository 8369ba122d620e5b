package guards

import (
	"fmt"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// sessionTerminable blocks when the requester may not end a session that the transition
// would end, when the kind of a session is unknown, or when a queued job would keep a
// session from stopping.
func sessionTerminable(_ policy.Policy, s observer.Snapshot, r Request) finding {
	if !s.Logind.Known() {
		return unreadLogind(s)
	}
	for _, session := range s.Logind.Sessions {
		if session.Kind() == observer.KindUnknown {
			return cannotTell(
				fmt.Sprintf("session %s has the unknown class %q and type %q", session.ID, session.Class, session.Type),
				"end it with `loginctl terminate-session "+session.ID+"`")
		}
	}
	graphical := s.Logind.Graphical()
	var foreign []observer.Session
	for _, session := range graphical {
		if session.UID != r.UID && !r.EndOthers {
			foreign = append(foreign, session)
		}
	}
	if len(foreign) > 0 {
		f := block(fmt.Sprintf("session %s belongs to %s", foreign[0].ID, foreign[0].User),
			"wait until they log out, or request the mode with permission to end sessions of other users")
		f.evidence = describe(foreign)
		return f
	}
	if f, blocks := judgeStoppedWithSessions(r.Impact); blocks {
		return f
	}
	reason := fmt.Sprintf("%d graphical sessions, all may be ended", len(graphical))
	switch len(graphical) {
	case 0:
		reason = "no graphical session"
	case 1:
		reason = "1 graphical session, may be ended"
	}
	f := pass(reason)
	f.evidence = describe(graphical)
	return f
}

// sessionPresent blocks a mode that is of use only with a graphical session.
func sessionPresent(p policy.Policy, s observer.Snapshot, _ Request) finding {
	fact := observer.Derive(p, s)[observer.GraphicalSession]
	switch fact.Truth {
	case observer.True:
		f := pass(fact.Reason)
		f.evidence = describe(s.Logind.Graphical())
		return f
	case observer.False:
		return block("there is no graphical session", "log in at the screen first")
	}
	return cannotTell("cannot determine whether there is a graphical session: "+unknownReason(fact, s.Logind.Reading),
		"see `loginctl` and `systemctl status systemd-logind`")
}

func unreadLogind(s observer.Snapshot) finding {
	return cannotTell("cannot read logind: "+unread(s.Logind.Reading),
		"see `systemctl status systemd-logind`, and retry")
}

func unknownReason(f observer.Fact, r observer.Reading) string {
	if f.Reason != "" {
		return f.Reason
	}
	return unread(r)
}

// sessionAbsent is the gate after sessions were ended. A session in the state closing
// still exists.
func sessionAbsent(_ policy.Policy, s observer.Snapshot, _ Request) finding {
	if !s.Logind.Known() {
		return unreadLogind(s)
	}
	var left []observer.Session
	for _, session := range s.Logind.Sessions {
		switch session.Kind() {
		case observer.KindUnknown:
			return cannotTell(fmt.Sprintf("session %s is of an unknown kind", session.ID),
				"end it with `loginctl terminate-session "+session.ID+"`")
		case observer.KindGraphical, observer.KindGreeter:
			left = append(left, session)
		}
	}
	if len(left) > 0 {
		f := block(fmt.Sprintf("session %s of %s still exists (%s)", left[0].ID, left[0].User, left[0].State),
			"end it with `loginctl kill-session "+left[0].ID+" -s KILL`")
		f.evidence = describe(left)
		return f
	}
	return pass("no graphical session")
}

func describe(sessions []observer.Session) []string {
	lines := make([]string, len(sessions))
	for i, s := range sessions {
		lines[i] = fmt.Sprintf(
			"session %s: %s (uid %d), %s %s on %s, %s", s.ID, s.User, s.UID, s.Type, s.Class, s.Seat, s.State,
		)
	}
	return lines
}
