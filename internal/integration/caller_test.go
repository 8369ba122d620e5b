//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
)

// place is where on the machine somebody asks from.
type place string

const (
	nowhere  place = "no session"        // a cron job, a system service
	remote   place = "ssh"               // a session without a seat
	atSeat   place = "local session"     // alice's and dave's are in front, bob's is not
	userUnit place = "service of theirs" // it counts as the user's display session
)

// caller is somebody somewhere. carol has no local session.
type caller struct {
	uid uint32
	at  place
}

func (c caller) String() string { return fmt.Sprintf("uid %d, %s", c.uid, c.at) }

// column is that of the table of rights. polkit takes a local session for active when
// any of its user's is.
func (c caller) column() int {
	switch local := c.at == atSeat || c.at == userUnit; {
	case local && (c.uid == alice || c.uid == dave):
		return byActive
	case local && c.uid == bob:
		return byInactive
	case c.at == nowhere:
		return bySessionless
	}
	return byRemote
}

func callers() []caller {
	return []caller{
		{alice, nowhere},
		{alice, remote},
		{alice, atSeat},
		{alice, userUnit},
		{bob, nowhere},
		{bob, remote},
		{bob, atSeat},
		{bob, userUnit},
		{carol, nowhere},
		{carol, remote},
		{carol, userUnit},
	}
}

// session is a session's id: one for each person and kind.
func (c caller) session() string {
	return fmt.Sprintf("%d%d", c.uid, map[place]int{remote: 1, atSeat: 2}[c.at])
}

// cgroup is where systemd puts a process of the caller; from it polkit knows the
// session (sd_pid_get_session(3)).
func (c caller) cgroup() string {
	slice := fmt.Sprintf("user.slice/user-%d.slice", c.uid)
	switch c.at {
	case nowhere:
		return "system.slice/cron.service"
	case userUnit:
		return fmt.Sprintf("%s/user@%d.service/app.slice/app.service", slice, c.uid)
	}
	return fmt.Sprintf("%s/session-%s.scope", slice, c.session())
}

// writeSessions writes the files in which logind tells of sessions and users
// (systemd, src/libsystemd/sd-login/sd-login.c).
func writeSessions(t *testing.T, dir string) {
	t.Helper()
	for _, sub := range []string{"sessions", "users", "seats", "machines"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	write := func(path, format string, args ...any) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), fmt.Appendf(nil, format, args...), 0o644))
	}
	for uid, state := range map[uint32]string{alice: "active", bob: "online", carol: "online", dave: "active"} {
		ssh, local := caller{uid, remote}.session(), caller{uid, atSeat}.session()
		write("sessions/"+ssh, "UID=%d\nACTIVE=1\nSTATE=active\nREMOTE=1\nTYPE=tty\nCLASS=user\n", uid)
		if uid == carol {
			write(fmt.Sprintf("users/%d", uid), "STATE=%s\nSESSIONS=%s\n", state, ssh)
			continue
		}
		write("sessions/"+local, "UID=%d\nACTIVE=%d\nSTATE=%s\nREMOTE=0\nTYPE=wayland\nCLASS=user\nSEAT=seat0\n",
			uid, map[string]int{"active": 1}[state], state)
		write(fmt.Sprintf("users/%d", uid), "STATE=%s\nDISPLAY=%s\nSESSIONS=%s %s\n", state, local, ssh, local)
	}
}

// as makes a command run as the caller.
func (g *guarded) as(t *testing.T, who caller, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	cmd.Dir = "/"
	cmd.SysProcAttr = g.inCgroup(
		t, who.cgroup(), &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: who.uid, Gid: who.uid}},
	)
	return cmd
}

// modectl runs modectl as the caller.
func (g *guarded) modectl(t *testing.T, who caller, args ...string) answer {
	t.Helper()
	t.Log(who)
	return run(t, g.as(t, who, g.ModectlCommand(bounded(t), args...)))
}

// requireRefused runs a request that must be refused and change nothing.
func (g *guarded) requireRefused(t *testing.T, says string, who caller, args ...string) {
	t.Helper()
	before := g.settled(t)
	a := g.modectl(t, who, append([]string{"request"}, args...)...)
	require.Equal(t, 40, a.code, who)
	require.Contains(t, a.stderr, says)
	require.Equal(t, before, everythingOf(t, g.Workstation))
}

// settled is everything once the daemon has written down what it has told, which it does
// in the turn in which it tells it. A call that changes nothing has a later turn.
func (g *guarded) settled(t *testing.T) everything {
	t.Helper()
	err := g.conn.Object(busapi.BusName, busapi.Path).CallWithContext(bounded(t), busapi.Interface+".ReleaseInhibitor", 0,
		uint32(0), uint64(0), busapi.Dict{}).Err
	require.ErrorIs(t, busapi.FromDBus(err), status.ErrNoSuchInhibitor)
	return everythingOf(t, g.Workstation)
}

// verdict asks polkit itself, as root may, about a process of the caller.
func (g *guarded) verdict(t *testing.T, action string, who caller) right {
	t.Helper()
	cmd := g.as(t, who, exec.Command("cat"))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait())
	}()
	var answer struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	require.NoError(t, g.conn.Object(polkitName, authorityPath).CallWithContext(bounded(t), authority+".CheckAuthorization", 0,
		process(cmd.Process.Pid, who.uid), action, map[string]string{}, uint32(0), "").Store(&answer))
	switch {
	case answer.Authorized:
		return yes
	case answer.Challenge && answer.Details["polkit.retains_authorization_after_challenge"] != "":
		return kept
	case answer.Challenge:
		return password
	}
	return no
}
