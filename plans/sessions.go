package plans

import (
	"slices"

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
		return len(observer.ManagerHolds(b.policy, b.snapshot.Processes, uid)) == 0 || b.survives(observer.UserManager(uid))
	})
	if len(holding) > 0 {
		b.add(Step{
			ID: "end-user-managers", Kind: EndManagers, Users: holding,
			Grace: own.ManagerTimeout.D(), Timeout: own.ManagerTimeout.D() + b.policy.Timeouts.Unit.D(),
		})
	}
}
