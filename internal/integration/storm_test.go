//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

const (
	// storm is how many forged signals are sent.
	storm = 10_000
	// memory bounds what the daemon may use in one, in KiB.
	memory = 64 << 10
)

// forger sends what looks like signals of systemd, logind and the bus.
type forger struct {
	conn *dbus.Conn
	// wire is what conn is connected by: what is sent again and again is written to it
	// as it was encoded once, or the sender would be the slowest of all.
	wire net.Conn
	// targets are the daemon's connections, to which signals can be sent alone,
	// and the empty name for everybody's.
	targets []string
}

func newForger(t *testing.T, w *embedded.Workstation) *forger {
	t.Helper()
	path, _, _ := strings.Cut(strings.TrimPrefix(w.Address(), "unix:path="), ",")
	wire, err := net.Dial("unix", path)
	require.NoError(t, err)
	conn, err := dbus.NewConn(wire)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.Auth(nil))
	require.NoError(t, conn.Hello())
	f := &forger{conn: conn, wire: wire, targets: append([]string{""}, connectionsOf(t, conn, w)...)}
	require.Greater(t, len(f.targets), 2, "the daemon has several connections")
	return f
}

// connectionsOf lists the daemon's connections, the one that serves clients first.
func connectionsOf(t *testing.T, conn *dbus.Conn, w *embedded.Workstation) (unique []string) {
	t.Helper()
	var names []string
	require.NoError(t, conn.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&names))
	var serves string
	require.NoError(t, conn.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, busapi.BusName).Store(&serves))
	for _, name := range names {
		var pid uint32
		err := conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, name).Store(&pid)
		if err == nil && int(pid) == w.DaemonPID() && name[0] == ':' && name != serves {
			unique = append(unique, name)
		}
	}
	return append([]string{serves}, unique...)
}

// forgery is a signal that would mean something if it were real.
type forgery struct {
	path dbus.ObjectPath
	name string
	body []any
}

// forgeries contradict what is there, and end what has not ended.
func forgeries(w *embedded.Workstation, job uint32) []forgery {
	changed := func(unit, state string) forgery {
		return forgery{testhost.UnitPath(unit), busapi.PropertiesInterface + ".PropertiesChanged", []any{
			"org.freedesktop.systemd1.Unit", map[string]dbus.Variant{"ActiveState": dbus.MakeVariant(state)}, []string{},
		}}
	}
	jobPath := dbus.ObjectPath(fmt.Sprintf("/org/freedesktop/systemd1/job/%d", job))
	session, _ := w.SessionOf("user")
	return []forgery{
		changed("compute.target", "active"), changed("desktop.target", "inactive"), changed("greetd.service", "inactive"),
		{
			"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved",
			[]any{job, jobPath, "greetd.service", "done"},
		},
		{"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved", []any{"not", "as", "documented"}},
		{"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.Reloading", []any{true}},
		{
			"/org/freedesktop/login1", "org.freedesktop.login1.Manager.SessionRemoved",
			[]any{session.ID, testhost.SessionPath(session.ID)},
		},
		{"/org/freedesktop/login1", "org.freedesktop.login1.Manager.SessionNew", nil},
		{"/org/freedesktop/DBus", "org.freedesktop.DBus.NameOwnerChanged", []any{"org.freedesktop.systemd1", ":1.1", ""}},
	}
}

// encode is a signal as it is sent to one of the targets.
func (f *forger) encode(t *testing.T, to string, forged forgery) []byte {
	t.Helper()
	dot := strings.LastIndexByte(forged.name, '.')
	msg := &dbus.Message{Type: dbus.TypeSignal, Body: forged.body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(forged.path),
		dbus.FieldInterface: dbus.MakeVariant(forged.name[:dot]),
		dbus.FieldMember:    dbus.MakeVariant(forged.name[dot+1:]),
	}}
	if len(forged.body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(forged.body...))
	}
	if to != "" {
		msg.Headers[dbus.FieldDestination] = dbus.MakeVariant(to)
	}
	var b bytes.Buffer
	require.NoError(t, msg.EncodeTo(&b, binary.LittleEndian))
	binary.LittleEndian.PutUint32(b.Bytes()[8:], 1) // the serial, which a connection gives otherwise
	return b.Bytes()
}

// rage sends the storm and asks the daemon something in the middle of it, again
// and again. It returns how long the slowest answer took.
func (f *forger) rage(t *testing.T, w *embedded.Workstation, c *watcher, job uint32) (slowest time.Duration) {
	t.Helper()
	var forged [][]byte
	for _, signal := range forgeries(w, job) {
		for _, to := range f.targets {
			forged = append(forged, f.encode(t, to, signal))
		}
	}
	const gust = 500
	for i := 0; i < storm; i += gust {
		var all []byte
		for n := range gust {
			all = append(all, forged[(i+n)%len(forged)]...)
		}
		_, err := f.wire.Write(all)
		require.NoError(t, err)
		began := time.Now()
		c.properties(t)
		slowest = max(slowest, time.Since(began))
	}
	// The bus has passed all of it on when it answers the sender.
	require.NoError(t, f.conn.BusObject().CallWithContext(bounded(t), "org.freedesktop.DBus.GetId", 0).Err)
	return slowest
}

// resident is the memory that the daemon uses, in KiB.
func resident(t *testing.T, w *embedded.Workstation) (kib int) {
	t.Helper()
	for line := range bytes.Lines([]byte(readFile(t, fmt.Sprintf("/proc/%d/status", w.DaemonPID())))) {
		if n, err := fmt.Sscanf(string(line), "VmRSS: %d kB", &kib); n == 1 && err == nil {
			return kib
		}
	}
	require.FailNow(t, "the kernel does not say how much memory the daemon uses")
	return 0
}

// quiet fails when any event has come, and forgets it.
func (c *watcher) quiet(t *testing.T) {
	t.Helper()
	for len(c.signals) > 0 {
		if e, ok := c.next(context.WithoutCancel(t.Context()), t, "an event"); ok {
			require.Fail(t, "something happened by forged signals", "%+v", e)
		}
	}
}

func TestForgedSignalsChangeNothingWhenIdle(t *testing.T) {
	w := start(t, testhost.Options{}, nil)
	c, f := watch(t, w), newForger(t, w)
	before, used := everythingOf(t, w), resident(t, w)
	slowest := f.rage(t, w, c, 1)
	c.quiet(t)
	require.Equal(t, before, everythingOf(t, w))

	// What is real is still heard, behind all of that.
	require.NoError(t, w.SetActive("vllm.service", "active"))
	c.await(t, "a real change is seen", func(e status.Event) bool {
		return e.StateChanged != nil && e.StateChanged.New == "degraded-desktop"
	})
	after := resident(t, w)
	t.Logf("%d forged signals: %d KiB before, %d KiB after, slowest answer %s", storm, used, after, slowest)
	require.Less(t, after, memory)
	require.Less(t, slowest, 5*time.Second)
}

func TestForgedSignalsChangeNothingInATransition(t *testing.T) {
	w := start(t, testhost.Options{}, nil)
	c, f := watch(t, w), newForger(t, w)
	require.NoError(t, w.Hang("greetd.service"))
	asked := background(t, w.ModectlCommand(bounded(t), "request", "compute"))
	require.NoError(t, w.Wait(bounded(t), "greetd stops", unitIs("greetd.service", "deactivating")))
	c.awaitStep(t, "stop-display-manager", status.StepDoing)
	u, err := w.Unit("greetd.service")
	require.NoError(t, err)

	slowest := f.rage(t, w, c, u.Job.ID)
	c.quiet(t)
	require.Equal(t, "stop-display-manager", c.properties(t).View.Running.Step)
	after := resident(t, w)
	t.Logf("%d forged signals: %d KiB after, slowest answer %s", storm, after, slowest)
	require.Less(t, after, memory)
	require.Less(t, slowest, 5*time.Second)

	require.NoError(t, w.Heal("greetd.service"))
	require.Zero(t, soon(t, "an answer", asked).code)
	requireHost(t, w, policy.Compute)
}
