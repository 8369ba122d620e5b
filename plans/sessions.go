package plans

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dubnium/dubnium/observer"
)

// askSessions adds the step that runs the policy's end hook for each graphical user. It
// is optional: a hook that fails is recorded, and the plan continues.
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

// endSessions adds the step that ends the sessions, and one for the user managers that
// hold a display GPU.
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

// Person is a user with a graphical session.
type Person struct {
	Session string `json:"session"`
	User    string `json:"user"`
	UID     uint32 `json:"uid"`
}

// setPeople sets People of the steps that may end sessions, the stop of the display
// manager among them.
func (b *builder) setPeople() {
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

// closing is the state of a session whose user has logged out while processes of it run.
const closing = "closing"

// Lost describes which sessions of People the step has ended; empty for none. done: the
// step was verified, so that EndSessions has ended them all. Otherwise a session is lost
// when it is not in now.
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
	noun, verb := "the session of ", " was"
	if len(gone) > 1 {
		noun, verb = "the sessions of ", " were"
	}
	if !done && !now.Known() {
		verb = " may have been"
	}
	return noun + strings.Join(names, ", ") + verb + " ended and cannot be restored"
}
