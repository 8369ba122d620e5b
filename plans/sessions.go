package plans

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
)

// askSessions has the policy's hook ask each person's session to end. What comes of
// it is no condition of anything: a hook that fails is told.
func (b *builder) askSessions() {
	own, users := b.policy.Sessions, b.snapshot.Logind.GraphicalUsers()
	if len(own.EndHook) == 0 || len(users) == 0 {
		return
	}
	b.add(Step{
		ID: "ask-sessions", Kind: AskSessions, Users: users, Optional: true,
		Grace: own.EndTimeout.D(), Timeout: own.EndTimeout.D() + own.KillTimeout.D(),
	})
}

// endSessions ends the sessions, and then what keeps a display GPU of those whose
// sessions these were.
func (b *builder) endSessions() {
	own, users := b.policy.Sessions, b.snapshot.Logind.GraphicalUsers()
	var ids []string
	for _, session := range b.snapshot.Logind.Graphical() {
		ids = append(ids, session.ID)
	}
	b.add(Step{
		ID: "end-sessions", Kind: EndSessions, Users: users, Sessions: ids,
		Grace: own.TerminateTimeout.D(), Timeout: own.TerminateTimeout.D() + own.KillTimeout.D(),
	})
	holding := slices.DeleteFunc(slices.Clone(users), func(uid uint32) bool {
		return len(observer.ManagerHolds(b.policy, b.snapshot.Processes, uid)) == 0 ||
			b.survives(observer.UserManager(uid))
	})
	if len(holding) > 0 {
		b.add(Step{
			ID: "end-user-managers", Kind: EndManagers, Users: holding,
			Grace: own.ManagerTimeout.D(), Timeout: own.ManagerTimeout.D() + b.policy.Timeouts.Unit.D(),
		})
	}
}

// Person is somebody at the screen, with their session.
type Person struct {
	Session string `json:"session"`
	User    string `json:"user"`
	UID     uint32 `json:"uid"`
}

// notePeople has the steps that end sessions say whose they are, the stop of the display
// manager included: it may take a session along.
func (b *builder) notePeople() {
	var people []Person
	for _, s := range b.snapshot.Logind.Graphical() {
		if s.State != closing {
			people = append(people, Person{s.ID, s.User, s.UID})
		}
	}
	for i, s := range b.plan.Steps {
		if s.Kind.Irreversible() != "" || s.Kind == StopUnit && s.Unit == b.policy.Units.DisplayManager {
			b.plan.Steps[i].People = people
		}
	}
}

// closing is the state of a session whose person has left, while anything of it lives.
const closing = "closing"

// Lost says whose sessions are gone of those that the step may have ended; empty for
// nobody's. Of sessions that were ended, the postcondition was seen once the step is done;
// else what logind says now decides.
func (s Step) Lost(done bool, now observer.Logind) string {
	done = done && s.Kind == EndSessions
	gone := slices.DeleteFunc(slices.Clone(s.People), func(p Person) bool {
		return !done && now.Known() && slices.ContainsFunc(now.Sessions, func(s observer.Session) bool {
			return s.ID == p.Session && s.State != closing
		})
	})
	if len(gone) == 0 {
		return ""
	}
	names := make([]string, len(gone))
	for i, p := range gone {
		names[i] = fmt.Sprintf("%s (uid %d)", p.User, p.UID)
	}
	what, was := "the session of ", " was"
	if len(gone) > 1 {
		what, was = "the sessions of ", " were"
	}
	if !done && !now.Known() {
		was = " may have been"
	}
	return what + strings.Join(names, ", ") + was + " ended and cannot be restored"
}
