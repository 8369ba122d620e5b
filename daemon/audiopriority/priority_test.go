package audiopriority_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/dubnium/dubnium/daemon/audiopriority"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/policy"
)

const upower, hadess = "org.freedesktop.UPower.PowerProfiles", "net.hadess.PowerProfiles"

// profiles is power-profiles-daemon, as far as it holds a profile for a connection.
type profiles struct {
	t       *testing.T
	conn    *dbus.Conn
	has     []string
	refuses bool

	mu   sync.Mutex
	held map[dbus.Sender]string
	wake chan struct{}
}

func (p *profiles) HoldProfile(profile, _, _ string, who dbus.Sender) (uint32, *dbus.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuses {
		return 0, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"no"})
	}
	p.held[who] = profile
	p.wake <- struct{}{}
	return 7, nil
}

func (p *profiles) Get(_, property string) (dbus.Variant, *dbus.Error) {
	if property != "Profiles" {
		return dbus.Variant{}, dbus.MakeFailedError(errors.New("no such property"))
	}
	list := []map[string]dbus.Variant{}
	for _, name := range p.has {
		list = append(list, map[string]dbus.Variant{"Profile": dbus.MakeVariant(name)})
	}
	return dbus.MakeVariant(list), nil
}

// holders are those who hold a profile.
func (p *profiles) holders() map[dbus.Sender]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.held)
}

// serve takes a name of the service.
func serve(t *testing.T, h *testhost.Host, name string, has ...string) *profiles {
	t.Helper()
	p := &profiles{
		t: t, conn: hosttest.Connect(t, h), has: has, held: map[dbus.Sender]string{}, wake: make(chan struct{}, 16),
	}
	path := dbus.ObjectPath("/org/freedesktop/UPower/PowerProfiles")
	if name == hadess {
		path = "/net/hadess/PowerProfiles"
	}
	require.NoError(t, p.conn.Export(p, path, name))
	require.NoError(t, p.conn.Export(p, path, "org.freedesktop.DBus.Properties"))
	reply, err := p.conn.RequestName(name, dbus.NameFlagDoNotQueue)
	require.NoError(t, err)
	require.Equal(t, dbus.RequestNameReplyPrimaryOwner, reply)
	return p
}

// helper is a Run beside the test.
type helper struct {
	t      *testing.T
	host   *testhost.Host
	name   string // on the bus
	device string
	held   string
	stop   context.CancelFunc
	ended  chan error
}

// run starts the helper and returns when it is ready or has ended.
func run(t *testing.T, h *testhost.Host, studio policy.Studio) *helper {
	t.Helper()
	r := &helper{t: t, host: h, device: filepath.Join(t.TempDir(), "cpu_dma_latency"), ended: make(chan error, 1)}
	require.NoError(t, os.WriteFile(r.device, nil, 0o600))
	bus, err := busconn.Dial(h.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	r.name = bus.UniqueName()
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	t.Cleanup(cancel)
	ready := make(chan string, 1)
	go func() {
		r.ended <- audiopriority.Run(ctx, audiopriority.Options{
			Studio: studio, Device: r.device, Bus: bus, Log: zap.New(zaptest.NewLogger(t).Core()),
			Ready: func(held string) error { ready <- held; return nil },
		})
	}()
	select {
	case r.held = <-ready:
	case err := <-r.ended:
		r.ended <- err
	case <-time.After(20 * time.Second):
		require.FailNow(t, "it is neither ready nor has it ended")
	}
	return r
}

func (r *helper) end() error {
	r.stop()
	return <-r.ended
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func studio(change func(*policy.Studio)) policy.Studio {
	s := policy.Default().Studio
	change(&s)
	return s
}

func TestTheLatencyIsWhatPolicySays(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	r := run(t, h, studio(func(s *policy.Studio) { s.CPUDMALatency = 3 }))
	data, err := os.ReadFile(r.device)
	require.NoError(t, err)
	require.Equal(t, []byte{3, 0, 0, 0}, data)
	require.Equal(t, "held: CPU latency 3 µs, no power profile (no service for power profiles)", r.held)
	require.NoError(t, r.end())

	r = run(t, h, studio(func(s *policy.Studio) { s.CPUDMALatency, s.PowerProfile = -1, policy.ProfileAlone }))
	data, err = os.ReadFile(r.device)
	require.NoError(t, err)
	require.Empty(t, data, "it is left alone")
	require.Equal(t, "held: nothing, by the policy", r.held)
	require.NoError(t, r.end())
}

func TestWhatCannotBeHeldIsNotReady(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	for name, c := range map[string]struct {
		breaks func() (undo func())
		want   string
	}{
		"a profile that is refused": {func() func() {
			p := serve(t, h, upower, "performance")
			p.mu.Lock()
			p.refuses = true
			p.mu.Unlock()
			return func() { p.conn.Close() }
		}, "cannot hold the power profile performance: no"},
		"a quantum": {func() func() {
			require.NoError(t, h.Fail("dubnium-quantum@1000.service"))
			return func() { require.NoError(t, h.Heal("dubnium-quantum@1000.service")) }
		}, "cannot force the quantum of uid 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			undo := c.breaks()
			r := run(t, h, studio(func(s *policy.Studio) { s.Quantum = 128 }))
			require.ErrorContains(t, r.end(), c.want)
			require.Empty(t, r.held)
			undo()
		})
	}
	bus, err := busconn.Dial(h.Address())
	require.NoError(t, err)
	defer bus.Close()
	err = audiopriority.Run(
		t.Context(), audiopriority.Options{
			Studio: studio(func(*policy.Studio) {}), Device: "/no/such/device",
			Bus: bus,
		},
	)
	require.ErrorContains(t, err, "cannot hold the CPU latency")
}

func TestTheProfileIsHeldByTheConnection(t *testing.T) {
	for _, name := range []string{upower, hadess} {
		t.Run(name, func(t *testing.T) {
			h := hosttest.Start(t, testhost.Options{})
			p := serve(t, h, name, "power-saver", "performance")
			r := run(t, h, studio(func(*policy.Studio) {}))
			require.Contains(t, r.held, "power profile performance")
			<-p.wake
			require.Equal(t, map[dbus.Sender]string{dbus.Sender(r.name): "performance"}, p.holders())

			// A service that begins anew has forgotten it.
			require.NoError(t, p.conn.Close())
			next := serve(t, h, name, "performance")
			select {
			case <-next.wake:
			case <-bounded(t).Done():
				require.FailNow(t, "it was not held again")
			}
			require.NoError(t, r.end())
		})
	}
}

func TestAMachineWithoutTheProfileIsTold(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	p := serve(t, h, upower, "power-saver", "balanced")
	r := run(t, h, studio(func(*policy.Studio) {}))
	require.Contains(t, r.held, "no power profile (this machine has no profile performance)")
	require.Empty(t, p.holders())
	require.NoError(t, r.end())
}

func TestEachPersonAtAScreenHasTheQuantumForced(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	active := func(uid uint32) bool {
		u, err := h.Unit(audiopriority.Unit(uid))
		require.NoError(t, err)
		return u.ActiveState == "active"
	}
	none := run(t, h, studio(func(*policy.Studio) {}))
	require.False(t, active(1000), "policy asks for none")
	require.NoError(t, none.end())

	r := run(t, h, studio(func(s *policy.Studio) { s.Quantum = 128 }))
	require.Contains(t, r.held, "quantum 128 for uids [1000]")
	require.True(t, active(1000), "ready means that it is forced")

	bob := h.AddSession(
		testhost.Session{UID: 1001, User: "bob", Class: "user", Type: "wayland", Seat: "seat0", Service: "login"},
	)
	require.NoError(t, h.WaitUnit(bounded(t), audiopriority.Unit(1001), "active"))
	require.NoError(t, h.Logout(bob))
	require.NoError(t, h.WaitUnit(bounded(t), audiopriority.Unit(1001), "inactive"))

	require.NoError(t, r.end())
	require.False(t, active(1000), "it is put back by the time the helper has ended")
}

// The helper is killed: systemd stops what is bound to its unit.
func TestAUnitThatForcesAQuantumGoesWithTheHelper(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	run(t, h, studio(func(s *policy.Studio) { s.Quantum = 128 }))
	require.NoError(t, h.Wait(bounded(t), "the helper's unit is up", func(m *sim.Model) bool {
		u, err := m.Unit("audio-priority.service")
		return err == nil && u.ActiveState == "active"
	}))
	require.NoError(t, h.Crash("audio-priority.service", "signal"))
	require.NoError(t, h.WaitUnit(bounded(t), audiopriority.Unit(1000), "inactive"))
}
