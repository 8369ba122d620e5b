//go:build integration

package integration

import (
	"slices"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
)

const (
	agentPath      = dbus.ObjectPath("/org/dubnium/test/Agent")
	agentInterface = polkitName + ".AuthenticationAgent"
	authorityPath  = dbus.ObjectPath("/org/freedesktop/PolicyKit1/Authority")
	authority      = polkitName + ".Authority"
)

// subject is polkit's (sa{sv}), which is the type of an identity as well.
type subject struct {
	Kind    string
	Details map[string]dbus.Variant
}

// process is a subject: polkit finds out when it began.
func process(pid int, uid uint32) subject {
	return subject{"unix-process", map[string]dbus.Variant{
		"pid": dbus.MakeVariant(uint32(pid)), "start-time": dbus.MakeVariant(uint64(0)), "uid": dbus.MakeVariant(int32(uid)),
	}}
}

// ofSession is the subject that the session of a person is.
func (p *person) ofSession() subject {
	return subject{"unix-session", map[string]dbus.Variant{"session-id": dbus.MakeVariant(p.session())}}
}

// prompt is what a person is asked for a password with.
type prompt struct {
	action, message string
}

// agent stands for the program that asks a person for a password: of a session, or of
// one process. It answers as the test says.
type agent struct {
	authority dbus.BusObject // as root, who vouches for passwords
	uid       uint32         // who registered it

	mu      sync.Mutex
	grants  int // how many of the next prompts are answered with the right password
	prompts []prompt
}

// every is for a person who answers each prompt with the right password.
const every = 1 << 30

// agentOf registers the agent of a person: for their session, or, where they have none,
// for their process alone, as pkttyagent(1) does. Only root may do that for others.
func (g *guarded) agentOf(t *testing.T, p *person) *agent {
	t.Helper()
	conn, uid, of := p.conn, p.uid, p.ofSession()
	if p.at != remote && p.at != atSeat {
		conn, uid, of = g.root(t).conn, 0, process(p.pid, p.uid)
	}
	a := &agent{authority: g.conn.Object(polkitName, authorityPath), uid: uid}
	require.NoError(t, conn.ExportMethodTable(map[string]any{
		"BeginAuthentication":  a.begin,
		"CancelAuthentication": func(string) *dbus.Error { return nil },
	}, agentPath, agentInterface))
	require.NoError(t, conn.Object(polkitName, authorityPath).CallWithContext(bounded(t),
		authority+".RegisterAuthenticationAgent", 0, of, "C", string(agentPath)).Err)
	return a
}

// begin is BeginAuthentication. polkit takes the reply for the end of the prompt, and
// the password for right if root has said so by then.
func (a *agent) begin(action, message, _ string, _ map[string]string, cookie string, identities []subject) *dbus.Error {
	a.mu.Lock()
	a.prompts = append(a.prompts, prompt{action, message})
	grant := a.grants > 0
	a.grants--
	a.mu.Unlock()
	if !grant {
		return dbus.NewError(polkitName+".Error.Cancelled", []any{"the person has canceled"})
	}
	if err := a.authority.Call(
		authority+".AuthenticationAgentResponse2", 0, a.uid, cookie, identities[0],
	).Err; err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}

// grant has the next prompts answered with a password, and those after them canceled.
// It forgets the prompts from before.
func (a *agent) grant(prompts int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.grants, a.prompts = prompts, nil
}

// seen returns the prompts since the last grant.
func (a *agent) seen() []prompt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.prompts)
}

// seenActions lists what those prompts were for.
func (a *agent) seenActions() (actions []string) {
	for _, p := range a.seen() {
		actions = append(actions, p.action)
	}
	return actions
}

// forget makes polkit forget the passwords that it keeps, which it does for an active
// session.
func (p *person) forget(t *testing.T) {
	t.Helper()
	if p.column() != byActive {
		return
	}
	require.NoError(t, p.conn.Object(polkitName, authorityPath).CallWithContext(bounded(t),
		authority+".RevokeTemporaryAuthorizations", 0, p.ofSession()).Err)
}
