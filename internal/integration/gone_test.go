//go:build integration

package integration

import (
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/policy"
)

func TestADaemonThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.NoError(t, w.StopDaemon())
	for _, command := range []string{"status", "current", "desired", "history"} {
		a := modectl(t, w, command)
		require.Equal(t, 41, a.code)
		require.Equal(t, "modectl: dubniumd is not running; start it with: systemctl start dubniumd\n", a.stderr)
	}
	require.Equal(t, 41, modectl(t, w, "request", "desktop").code)
	require.NoError(t, w.StartDaemon(bounded(t)))
	require.Equal(t, "desktop\n", modectl(t, w, "current").stdout)
}

func TestABusThatIsNotThereIsNamed(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	cmd := w.ModectlCommand(bounded(t), "status")
	cmd.Env = append(cmd.Env, "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+w.Dir()+"/no-such-bus")
	a := run(t, cmd)
	require.Equal(t, 41, a.code)
	require.Contains(t, a.stderr, "cannot reach the system bus")
}

func TestADaemonThatHangsIsNotWaitedForForEver(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.NoError(t, unix.Kill(w.DaemonPID(), unix.SIGSTOP))
	a := modectl(t, w, "status")
	require.Equal(t, 41, a.code)
	require.Contains(t, a.stderr, "does not answer")
	require.NoError(t, unix.Kill(w.DaemonPID(), unix.SIGCONT))
	require.Zero(t, modectl(t, w, "status").code)
}

// killBus ends the bus as if its process had crashed.
func killBus(t *testing.T, w *embedded.Workstation, c *watcher) {
	t.Helper()
	var pid uint32
	require.NoError(
		t, c.conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, "org.freedesktop.DBus").Store(&pid),
	)
	require.NotEqual(t, w.DaemonPID(), int(pid))
	require.NoError(t, unix.Kill(int(pid), unix.SIGKILL))
}

func TestADaemonThatLosesTheBusExits(t *testing.T) {
	for name, transition := range map[string]bool{"idle": false, "in a transition": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, testhost.Options{}, nil)
			c := watch(t, w)
			var asked <-chan answer
			if transition {
				require.NoError(t, w.Hang("greetd.service"))
				asked = background(t, w.ModectlCommand(bounded(t), "request", "compute"))
				c.awaitStep(t, "stop-display-manager", status.StepDoing)
			}
			killBus(t, w, c)
			code, err := w.AwaitDaemonExit(bounded(t))
			require.NoError(t, err)
			require.NotZero(t, code, "systemd starts it again")
			if transition {
				a := soon(t, "modectl gives up", asked)
				require.Equal(t, 41, a.code)
				require.Contains(t, a.stderr, "its outcome is not known")
			}
		})
	}
}

func TestServicesThatRestartAreHeardAgain(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, func(p *policy.Policy) { p.Studio.Quiesce = []string{} }) // the overlay comes by hand
	c := watch(t, w)
	changed := func(to string) {
		t.Helper()
		c.await(t, "the host is "+to, func(e status.Event) bool {
			return e.StateChanged != nil && string(e.StateChanged.New) == to
		})
	}
	for range 2 {
		require.NoError(t, w.RestartSystemd())
		require.NoError(t, w.SetActive("vllm.service", "active"))
		changed("degraded-desktop")
		require.NoError(t, w.SetActive("vllm.service", "inactive"))
		changed("desktop")
		require.NoError(t, w.RestartLogind())
		id := w.AddSession(
			testhost.Session{UID: 1001, User: "bob", Class: "user-quantum", Type: "wayland", Seat: "seat0", Service: "login"},
		)
		session, found := w.SessionOf("user")
		require.True(t, found)
		require.NoError(t, w.SetActive("studio-local-policy.service", "active"))
		require.NoError(t, w.SetActive("audio-priority.service", "active"))
		changed("studio-local")
		require.NoError(t, w.Logout(session.ID)) // is there anybody at the desk? only logind knows
		changed("unknown")
		require.NoError(t, w.Logout(id))
		changed("degraded-studio-local")
		_, err := w.Login("alice")
		require.NoError(t, err)
		changed("studio-local")
		require.NoError(t, w.SetActive("audio-priority.service", "inactive"))
		require.NoError(t, w.SetActive("studio-local-policy.service", "inactive"))
		changed("desktop")
	}
	requireHost(t, w, policy.Desktop)
}

// answered returns when a service has answered every call that it has begun to
// serve: it answers in order.
func answered(t *testing.T, c *watcher, service string) {
	t.Helper()
	name := "org.freedesktop." + service
	object := c.conn.Object(name, dbus.ObjectPath("/org/freedesktop/"+service))
	require.NoError(t, object.CallWithContext(bounded(t), busapi.PropertiesInterface+".GetAll", 0, name+".Manager").Err)
}

func TestATransitionOutlivesARestartOfSystemd(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	require.NoError(t, w.Hang("greetd.service"))
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	require.NoError(t, w.Wait(bounded(t), "greetd is asked to stop", func(m *sim.Model) bool {
		u, err := m.Unit("greetd.service")
		return err == nil && u.ActiveState == "deactivating"
	}))
	answered(t, c, "systemd1")
	require.NoError(t, w.RestartSystemd())
	require.NoError(t, w.Heal("greetd.service"))
	require.Zero(t, soon(t, "an answer", asked).code)
	requireHost(t, w, policy.Compute)
}

func TestATransitionOutlivesARestartOfLogind(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	session, found := w.SessionOf("user")
	require.True(t, found)
	require.NoError(t, w.EditSession(session.ID, func(s *testhost.Session) { s.IgnoresTerm = true }))
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	require.NoError(t, w.Wait(bounded(t), "the session is asked to end", func(m *sim.Model) bool {
		s, err := m.Session(session.ID)
		return err == nil && s.State == "closing"
	}))
	answered(t, c, "login1")
	require.NoError(t, w.RestartLogind())
	require.NoError(t, w.Logout(session.ID))
	require.Zero(t, soon(t, "an answer", asked).code)
	requireHost(t, w, policy.Compute)
}

// A second daemon must not run beside the first.
func TestASecondDaemonDoesNotStart(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	a := run(t, w.DaemonCommand(bounded(t)))
	require.NotZero(t, a.code)
	require.Contains(t, a.stderr, "is dubniumd running already?")
	requireHonest(t, w)
}
