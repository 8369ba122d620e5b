package host_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/dubnium/dubnium/daemon/host"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/internal/zap"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// hands are the actors on a simulated host.
type hands struct {
	t      *testing.T
	host   *testhost.Host
	bus    *busconn.Bus
	memory *host.Memory
	actors map[plans.Kind]host.Actor
}

func newHands(t *testing.T, opts testhost.Options) *hands {
	t.Helper()
	h := hosttest.Start(t, opts)
	bus, err := busconn.Dial(h.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	memory := host.OpenMemory(t.TempDir(), "this boot")
	return &hands{t, h, bus, memory, host.Actors(bus, policy.Default(), options(t, h, memory))}
}

func options(t *testing.T, h *testhost.Host, m *host.Memory) host.Options {
	return host.Options{Memory: m, Cgroups: filepath.Join(h.Root(), "sys/fs/cgroup"), Log: zap.New(zaptest.NewLogger(t).Core())}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (h *hands) prepare(s plans.Step) json.RawMessage {
	h.t.Helper()
	before, err := h.actors[s.Kind].Prepare(bounded(h.t), s)
	require.NoError(h.t, err)
	return before
}

func (h *hands) apply(s plans.Step) error  { return h.actors[s.Kind].Apply(bounded(h.t), s) }
func (h *hands) verify(s plans.Step) error { return h.actors[s.Kind].Verify(bounded(h.t), s) }

func (h *hands) undo(s plans.Step, before json.RawMessage) error {
	return h.actors[s.Kind].Undo(bounded(h.t), s, before)
}

// state is a unit's ActiveState.
func (h *hands) state(unit string) string {
	h.t.Helper()
	u, err := h.host.Unit(unit)
	require.NoError(h.t, err)
	return u.ActiveState
}

// applying runs Apply beside the test.
func (h *hands) applying(ctx context.Context, s plans.Step) <-chan error {
	done := make(chan error, 1)
	go func() { done <- h.actors[s.Kind].Apply(ctx, s) }()
	return done
}

// expiring is a context whose deadline is over when the test says so, however
// slow the machine is.
type expiring struct {
	context.Context
	done chan struct{}
}

func newExpiring(t *testing.T) expiring { return expiring{t.Context(), make(chan struct{})} }

func (e expiring) expire() { close(e.done) }

func (e expiring) Done() <-chan struct{} { return e.done }

func (e expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func receive(t *testing.T, from <-chan error) error {
	t.Helper()
	select {
	case err := <-from:
		return err
	case <-time.After(20 * time.Second):
		require.FailNow(t, "it hangs")
		return nil
	}
}

// forge sends the actors' connection a signal that looks like a service's.
func (h *hands) forge(path dbus.ObjectPath, iface, member string, body ...any) {
	h.t.Helper()
	from := hosttest.Connect(h.t, h.host)
	from.Send(&dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(iface),
		dbus.FieldMember: dbus.MakeVariant(member), dbus.FieldDestination: dbus.MakeVariant(h.bus.UniqueName()),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}, nil)
	require.NoError(h.t, from.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
}

func TestEveryKindThatChangesTheHostHasAnActor(t *testing.T) {
	h := newHands(t, testhost.Options{})
	for _, kind := range []plans.Kind{
		plans.StartUnit, plans.StopUnit, plans.Isolate, plans.EndSessions, plans.SetSlices, plans.Quiesce, plans.Resume,
	} {
		require.NotNil(t, h.actors[kind], kind)
	}
}

// A step whose Prepare never finished never began, so undo leaves things alone.
func TestUndoWithoutAPreparedStepChangesNothing(t *testing.T) {
	h := newHands(t, testhost.Options{})
	for kind, unit := range map[plans.Kind]string{
		plans.StartUnit: "greetd.service", plans.StopUnit: "vllm.service", plans.Isolate: "desktop.target", plans.EndSessions: "",
	} {
		require.NoError(t, h.undo(plans.Step{Kind: kind, Unit: unit}, nil), kind)
	}
	require.Equal(t, "active", h.state("greetd.service"))
	require.Equal(t, "inactive", h.state("vllm.service"))
	require.Equal(t, "active", h.state("desktop.target"))
}

func TestUndoOfAnUnreadableJournalSaysSo(t *testing.T) {
	h := newHands(t, testhost.Options{})
	for _, kind := range []plans.Kind{plans.StartUnit, plans.StopUnit, plans.Isolate} {
		err := h.undo(plans.Step{Kind: kind, Unit: "vllm.service"}, json.RawMessage("{"))
		require.ErrorContains(t, err, "cannot read what was there before")
	}
}

func TestALostBusIsAnErrorAndNoHang(t *testing.T) {
	for kind, unit := range map[plans.Kind]string{
		plans.StartUnit: "vllm.service", plans.StopUnit: "greetd.service", plans.Isolate: "compute.target", plans.EndSessions: "",
	} {
		t.Run(string(kind), func(t *testing.T) {
			h := newHands(t, testhost.Options{})
			for _, name := range []string{"vllm.service", "greetd.service"} {
				require.NoError(t, h.host.Hang(name))
			}
			if s, ok := h.host.SessionOf("user"); ok {
				require.NoError(t, h.host.EditSession(s.ID, func(s *testhost.Session) { s.Stuck = true }))
			}
			step := plans.Step{Kind: kind, Unit: unit, Grace: time.Minute, Users: []uint32{1000}}
			done := h.applying(bounded(t), step)
			h.awaitBegun(kind)
			h.bus.Close()
			require.ErrorIs(t, receive(t, done), busconn.ErrDisconnected)
			require.ErrorIs(t, h.verify(step), busconn.ErrDisconnected)
			_, err := h.actors[kind].Prepare(bounded(t), step)
			require.ErrorIs(t, err, busconn.ErrDisconnected)
		})
	}
}
