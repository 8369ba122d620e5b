package host_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/dubnium/dubnium/daemon/host"
	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders/probe"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// handlers are the handlers on a simulated host.
type handlers struct {
	t      *testing.T
	host   *testhost.Host
	bus    *busconn.Bus
	saved  *host.SavedState
	byKind map[plans.Kind]plans.StepHandler
	nvml   *nvml
}

func newHandlers(t *testing.T, opts testhost.Options) *handlers {
	t.Helper()
	t.Parallel()
	h := hosttest.Start(t, opts)
	bus, err := busconn.Dial(h.Address())
	require.NoError(t, err)
	t.Cleanup(func() { bus.Close() })
	saved := host.OpenSavedState(t.TempDir(), "this boot")
	handlers := &handlers{t: t, host: h, bus: bus, saved: saved, nvml: &nvml{}}
	handlers.setPolicy(policy.Default())
	return handlers
}

// setPolicy makes the handlers those of another policy.
func (h *handlers) setPolicy(p policy.Policy) {
	o := options(h.t, h.host, h.saved)
	o.Monitor = h.monitor(o.Log)
	h.byKind = host.StepHandlers(h.bus, p, o)
}

// monitor reads the holders by the probe's own code, and NVML's values of the test.
func (h *handlers) monitor(log *zap.Logger) *monitor.Monitor {
	roots := probe.Roots{Proc: filepath.Join(h.host.Root(), "proc"), Sys: filepath.Join(h.host.Root(), "sys")}
	m := monitor.New(10*time.Second, log, holders{roots, h.nvml}, h.nvml)
	ctx, cancel := context.WithCancel(h.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	h.t.Cleanup(func() { cancel(); <-done })
	return m
}

type holders struct {
	probe.Roots
	nvml *nvml
}

func (holders) Name() string                              { return observer.SourceHolders }
func (holders) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }
func (s holders) Read(ctx context.Context) observer.Part {
	part := observer.ProcessScan{Reading: observer.Reading{At: time.Now()}}
	d, err := probe.New(s.Roots).Scan(ctx)
	if err == nil {
		err = s.nvml.blind()
	}
	if err != nil {
		part.Reason = err.Error()
		return part
	}
	part.GPUs, part.Holders = d.GPUs, d.Holders
	for i := range part.GPUs {
		part.GPUs[i].Driver = s.nvml.driver()
	}
	return part
}

// nvml has what the driver reports, and the error that hides the holders.
type nvml struct {
	mu    sync.Mutex
	says  observer.NVML
	is    string
	fault error
}

func (n *nvml) set(driver string, says observer.NVML, blind error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.is, n.says, n.fault = driver, says, blind
}

func (n *nvml) driver() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.is
}

func (n *nvml) blind() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fault
}

func (*nvml) Name() string                              { return observer.SourceGPU }
func (*nvml) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }
func (n *nvml) Read(context.Context) observer.Part {
	n.mu.Lock()
	defer n.mu.Unlock()
	says := n.says
	says.At = time.Now()
	return says
}

// noteRecorder records the notes of a step.
type noteRecorder struct {
	mu    sync.Mutex
	notes []string
}

func (*noteRecorder) Progress(string)               {}
func (*noteRecorder) Residual([]observer.GPUMemory) {}
func (s *noteRecorder) Note(text string, _ []observer.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, text)
}

func options(t *testing.T, h *testhost.Host, m *host.SavedState) host.Options {
	return host.Options{
		SavedState: m, Cgroups: filepath.Join(h.Root(), "sys/fs/cgroup"), Log: zap.New(zaptest.NewLogger(t).Core()),
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (h *handlers) prepare(s plans.Step) json.RawMessage {
	h.t.Helper()
	before, err := h.byKind[s.Kind].Prepare(bounded(h.t), s)
	require.NoError(h.t, err)
	return before
}

func (h *handlers) apply(s plans.Step) error  { return h.byKind[s.Kind].Apply(bounded(h.t), s) }
func (h *handlers) verify(s plans.Step) error { return h.byKind[s.Kind].Verify(bounded(h.t), s) }

func (h *handlers) undo(s plans.Step, before json.RawMessage) error {
	return h.byKind[s.Kind].Undo(bounded(h.t), s, before)
}

// state is a unit's ActiveState.
func (h *handlers) state(unit string) string {
	h.t.Helper()
	u, err := h.host.Unit(unit)
	require.NoError(h.t, err)
	return u.ActiveState
}

// applying runs Apply beside the test.
func (h *handlers) applying(ctx context.Context, s plans.Step) <-chan error {
	done := make(chan error, 1)
	go func() { done <- h.byKind[s.Kind].Apply(ctx, s) }()
	return done
}

// expiring is a context whose deadline passes when the test calls expire, regardless of
// the speed of the machine.
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

// forge sends the handlers' connection a signal that looks like a service's.
func (h *handlers) forge(path dbus.ObjectPath, iface, member string, body ...any) {
	h.t.Helper()
	from := hosttest.Connect(h.t, h.host)
	from.Send(&dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(path), dbus.FieldInterface: dbus.MakeVariant(iface),
		dbus.FieldMember: dbus.MakeVariant(member), dbus.FieldDestination: dbus.MakeVariant(h.bus.UniqueName()),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}}, nil)
	require.NoError(h.t, from.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
}

func TestEveryKindHasHandler(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	for _, kind := range []plans.Kind{
		plans.StartUnit, plans.StopUnit, plans.Isolate, plans.EndSessions, plans.SetSlices, plans.Quiesce, plans.Resume,
		plans.StopVLLM, plans.AskSessions, plans.EndManagers,
	} {
		require.NotNil(t, h.byKind[kind], kind)
	}
}

// A step whose Prepare never finished never began, so undo leaves things alone.
func TestUndoUnprepared(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	for kind, unit := range map[plans.Kind]string{
		plans.StartUnit: "greetd.service", plans.StopUnit: "vllm.service", plans.Isolate: "desktop.target",
		plans.EndSessions: "",
	} {
		require.NoError(t, h.undo(plans.Step{Kind: kind, Unit: unit}, nil), kind)
	}
	require.Equal(t, "active", h.state("greetd.service"))
	require.Equal(t, "inactive", h.state("vllm.service"))
	require.Equal(t, "active", h.state("desktop.target"))
}

func TestUndoUnreadable(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	for _, kind := range []plans.Kind{plans.StartUnit, plans.StopUnit, plans.Isolate} {
		err := h.undo(plans.Step{Kind: kind, Unit: "vllm.service"}, json.RawMessage("{"))
		require.ErrorContains(t, err, "cannot decode the previous state")
	}
}

func TestBusLost(t *testing.T) {
	for kind, unit := range map[plans.Kind]string{
		plans.StartUnit: "vllm.service", plans.StopUnit: "greetd.service", plans.Isolate: "compute.target",
		plans.EndSessions: "",
	} {
		t.Run(string(kind), func(t *testing.T) {
			h := newHandlers(t, testhost.Options{})
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
			_, err := h.byKind[kind].Prepare(bounded(t), step)
			require.ErrorIs(t, err, busconn.ErrDisconnected)
		})
	}
}
