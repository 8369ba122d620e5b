//go:build integration

package integration

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// withBackup is a machine with a unit that compute does not want.
var withBackup = testhost.Options{
	Units: []testhost.Unit{{Name: "backup.service", WantedBy: []string{"desktop.target"}}},
}

// log is what the daemon has logged so far.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// dryRun is what `modectl dry-run --json` says.
func dryRun(t *testing.T, w *embedded.Workstation, mode policy.Mode, code int) status.Preview {
	t.Helper()
	a := modectl(t, w, "dry-run", string(mode), "--json")
	require.Equal(t, code, a.code)
	return decode[status.Preview](t, a.stdout)
}

// overheard are the messages on the bus while f runs.
func overheard(t *testing.T, w *embedded.Workstation, f func()) []*dbus.Message {
	t.Helper()
	monitor, other := hosttest.Connect(t, w.Host), hosttest.Connect(t, w.Host)
	heard := make(chan *dbus.Message, 1<<16)
	require.NoError(
		t, monitor.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{}, uint32(0)).Err,
	)
	monitor.Eavesdrop(heard)
	mark := func() {
		require.NoError(t, other.Emit("/org/dubnium/test", "org.dubnium.Test.Mark"))
	}
	var all []*dbus.Message
	until := func() {
		for {
			m := soon(t, "the mark", heard)
			if member, _ := m.Headers[dbus.FieldMember].Value().(string); member == "Mark" {
				return
			}
			all = append(all, m)
		}
	}
	mark()
	until()
	all = nil
	f()
	mark()
	until()
	require.Less(t, len(heard), cap(heard), "what does not fit is lost")
	return all
}

// reading are the calls that only read. LoadUnit has systemd read a unit file that it
// had no use for until then; Subscribe is about the caller alone.
var reading = []string{
	"Hello", "AddMatch", "RemoveMatch", "GetNameOwner", "NameHasOwner", "GetConnectionUnixUser", "GetConnectionCredentials", "GetId",
	"Get", "GetAll", "Subscribe", "ListUnits", "ListUnitsByNames", "LoadUnit", "ListJobs", "ListSessions", "ListInhibitors", "ListSessionsEx", "Plan", "Ping",
}

func TestADryRunLeavesNoTrace(t *testing.T) {
	t.Parallel()
	said := &log{}
	w, err := embedded.Start(bounded(t), programs, embedded.Options{Host: withBackup, Log: said})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	require.NoError(t, os.Chmod(w.Dir(), 0o755))
	daemonName := func() (name string) {
		require.NoError(
			t, hosttest.Connect(t, w.Host).BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, busapi.BusName).Store(&name),
		)
		return name
	}()
	dryRun(t, w, policy.Compute, 0) // a first look finds what nobody has looked at for a while

	before, written, logged := everythingOf(t, w), mtimes(t, w), said.String()
	messages := overheard(t, w, func() {
		for _, form := range [][]string{nil, {"--json"}, {"--dot"}} {
			require.Zero(t, modectl(t, w, append([]string{"dry-run", "compute"}, form...)...).code)
		}
		require.Zero(t, run(t, as(nobody, w.ModectlCommand(bounded(t), "dry-run", "studio-local"))).code)
	})
	after := everythingOf(t, w)
	require.Equal(t, before.Files, after.Files)
	require.Equal(t, before.Host.Sessions, after.Host.Sessions)
	require.Equal(t, before.Host.Processes, after.Host.Processes)
	for unit, state := range after.Host.Units {
		if was, known := before.Host.Units[unit]; known {
			require.Equal(t, was, state, unit)
		} else {
			require.Equal(t, "inactive", state, "%s was read, and no more", unit)
		}
	}
	require.Equal(t, written, mtimes(t, w))
	require.Equal(t, logged, said.String())

	plans := 0
	for _, m := range messages {
		member, _ := m.Headers[dbus.FieldMember].Value().(string)
		sender, _ := m.Headers[dbus.FieldSender].Value().(string)
		switch m.Type {
		case dbus.TypeMethodCall:
			assert.Contains(t, reading, member)
			if member == "Plan" {
				plans++
			}
		case dbus.TypeSignal:
			assert.NotEqual(t, daemonName, sender, "the daemon announced %s", member)
		}
	}
	require.Equal(t, 4, plans, "the monitor has heard it")
}

// mtimes say when each of the daemon's files was written.
func mtimes(t *testing.T, w *embedded.Workstation) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, dir := range []string{w.Policy.Paths.Runtime, w.Policy.Paths.State} {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, entry := range entries {
			info, err := entry.Info()
			require.NoError(t, err)
			found[filepath.Join(dir, entry.Name())] = info.ModTime().String()
		}
	}
	return found
}

func TestAPlanThatWasShownIsCarriedOut(t *testing.T) {
	t.Parallel()
	w := start(t, withBackup, nil)
	p := dryRun(t, w, policy.Compute, 0)
	require.Equal(t, "2", strings.TrimPrefix(p.Sessions[0].ID, "c"), "alice's")
	require.True(t, slices.ContainsFunc(p.Stops, stopsUnit("backup.service")))
	require.True(t, slices.ContainsFunc(p.Stops, stopsUnit("greetd.service")))
	require.NotEmpty(t, p.Holders)
	require.Zero(t, p.Expected.Count)
	require.Zero(t, modectl(t, w, "request", "compute", "--plan", p.Fingerprint).code)
	requireHost(t, w, policy.Compute)
	var planned, done []string
	for _, s := range p.Steps {
		planned = append(planned, s.ID)
	}
	for _, s := range lastRecord(t, w)["steps"].([]any) {
		done = append(done, s.(object)["id"].(string))
	}
	require.Equal(t, planned, done)
	for _, c := range p.Stops {
		u, err := w.Unit(c.Unit)
		require.NoError(t, err)
		require.Equal(t, "inactive", u.ActiveState, c.Unit)
	}

	reach(t, w, policy.Desktop)
	require.Equal(t, 1, dryRun(t, w, policy.Compute, 0).Expected.Count)
	there := dryRun(t, w, policy.Desktop, 0)
	require.True(t, there.Reached)
	require.Zero(t, modectl(t, w, "request", "desktop", "--plan", there.Fingerprint).code)
}

func TestAStalePlanIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	w := start(t, withBackup, nil)
	p := dryRun(t, w, policy.Compute, 0)
	w.AddSession(testhost.Session{User: "bob", UID: 1001, Class: "user", Type: "tty", Remote: true})
	require.Equal(t, p.Fingerprint, dryRun(t, w, policy.Compute, 0).Fingerprint, "who comes over ssh is nobody who goes")

	require.NoError(t, w.SetActive("backup.service", "inactive"))
	before := everythingOf(t, w)
	a := modectl(t, w, "request", "compute", "--plan", p.Fingerprint)
	require.Equal(t, 44, a.code)
	require.Contains(t, a.stderr, "modectl dry-run")
	require.Equal(t, 1, strings.Count(a.stderr, "\n"))
	after := everythingOf(t, w)
	require.Equal(t, before.Files, after.Files, "desired is one of them")
	require.Equal(t, before.Host.Processes, after.Host.Processes)
	requireHost(t, w, policy.Desktop)
	require.Zero(t, modectl(t, w, "request", "compute", "--plan", dryRun(t, w, policy.Compute, 0).Fingerprint).code)
}

func stopsUnit(unit string) func(unitgraph.StoppedUnit) bool {
	return func(c unitgraph.StoppedUnit) bool { return c.Unit == unit }
}

func TestWhatMustSurviveKeepsTheDesktop(t *testing.T) {
	t.Parallel()
	w := start(t, withBackup, func(p *policy.Policy) { p.MustSurvive = []string{"backup.service"} })
	p := dryRun(t, w, policy.Compute, 18)
	require.True(t, slices.ContainsFunc(p.Stops, stopsUnit("backup.service")))
	judged(t, w, policy.CheckTargetReachable, 18)
	a := modectl(t, w, "request", "compute", "--plan", p.Fingerprint)
	require.Equal(t, 18, a.code, "a plan that was shown blocked is blocked")
	require.Contains(t, a.stdout, "backup.service would stop")
	require.Contains(t, a.stdout, "systemctl add-wants compute.target backup.service")
	requireHost(t, w, policy.Desktop)
	reach(t, w, policy.StudioLocal)
	require.NoError(t, w.SetActive("backup.service", "inactive"))
	reach(t, w, policy.Compute)
}

func TestAQueuedJobKeepsTheSession(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.NoError(t, w.Hang("greetd.service"))
	conn := hosttest.Connect(t, w.Host)
	require.NoError(t, conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		Call("org.freedesktop.systemd1.Manager.RestartUnit", 0, "greetd.service", "replace").Err)
	require.Contains(
		t, judged(t, w, policy.CheckGraphicalSessionTerminable, 17).Reason, "job is queued for greetd.service",
	)
	a := modectl(t, w, "request", "compute")
	require.Equal(t, 17, a.code)
	require.Contains(t, a.stdout, "systemctl list-jobs")
	require.Empty(t, lastRecord(t, w)["steps"])
}

// TestAPlanTellsNobodyElsesPrograms: of alice's compositor others read that it is hers.
func TestAPlanTellsNobodyElsesPrograms(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	a := run(t, as(nobody, w.ModectlCommand(bounded(t), "dry-run", "compute", "--json")))
	require.Equal(t, 17, a.code, "nor may they end her session")
	p := decode[status.Preview](t, a.stdout)
	require.Equal(t, uint32(alice), p.Holders[0].UID)
	require.True(t, p.Holders[0].Redacted)
	require.NotContains(t, a.stdout, "sway (pid")
}
