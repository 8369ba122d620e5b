package client

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/server"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// No test of this package reaches the machine's own bus by accident.
func TestMain(m *testing.M) {
	_ = os.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/dubnium-test")
	os.Exit(m.Run())
}

var begin = time.UnixMicro(1_800_000_000_000_000)

// engine is a controller whose requests run a script of the test.
type engine struct {
	server.Controller // what no test asks of it

	mu       sync.Mutex
	view     status.View
	verdicts []guards.Verdict
	server   *server.Server
	// onRequest runs before the request is answered.
	onRequest func(e *engine, r status.Request) error
}

func (e *engine) View() status.View {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.view
}

// publish changes the view and announces it, as the engine's goroutine does.
func (e *engine) publish(change func(v *status.View), events ...status.Event) {
	e.mu.Lock()
	change(&e.view)
	view := e.view
	e.mu.Unlock()
	e.server.Notify(view, events)
}

func (e *engine) Request(_ context.Context, r status.Request) (uint64, error) {
	return 5, e.onRequest(e, r)
}

func (e *engine) Record(context.Context, uint64) (status.Record, error) {
	return status.Record{}, status.ErrNoSuchTransition
}

// History tells in pages of one record, down to the filter's last.
func (e *engine) History(_ context.Context, f status.Filter) ([]status.Record, bool, error) {
	return []status.Record{{ID: uint64(f.Limit), By: f.By, Finished: begin}}, f.By == "bob" && f.Limit > 1, nil
}

func (e *engine) Rejected(status.RejectedRequest) {}

func (e *engine) Observe(context.Context) (status.View, error) { return e.View(), nil }
func (e *engine) Judge(
	_ context.Context, _ status.Request, ids []policy.GuardID,
) ([]guards.Verdict, observer.Snapshot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(ids) == 0 {
		return e.verdicts, observer.Snapshot{}, nil
	}
	var named []guards.Verdict
	for _, v := range e.verdicts {
		if slices.Contains(ids, v.Guard) {
			named = append(named, v)
		}
	}
	return named, observer.Snapshot{}, nil
}

func (e *engine) Plan(_ context.Context, r status.Request) (status.Preview, observer.Snapshot, error) {
	return status.Preview{To: r.Mode, Fingerprint: "f00d"}, observer.Snapshot{}, nil
}

// started and finished are the two ends of the transition 5.
func (e *engine) started() {
	running := status.Transition{ID: 5, From: "desktop", To: policy.Compute, Started: begin}
	e.publish(func(v *status.View) { v.Running = &running }, status.Event{Started: &running})
}

func (e *engine) step(id uint64, name string, s status.StepStatus) {
	e.publish(func(*status.View) {}, status.Event{Step: &status.StepEvent{ID: id, Count: 2, Step: name, Status: s}})
}

var reached = status.Record{
	ID: 5, From: "desktop", To: policy.Compute, Final: "compute", Result: status.Success, Finished: begin,
}

func (e *engine) finished() {
	e.publish(func(v *status.View) { v.Running, v.Last = nil, &reached }, status.Event{Finished: &reached})
}

// root allows everything, as for uid 0.
type root struct{}

func (root) UID(context.Context, string) (uint32, error)                              { return 0, nil }
func (root) Authorize(context.Context, string, string, map[string]string, bool) error { return nil }
func (e *engine) script(f func(e *engine, r status.Request) error) *engine            { e.onRequest = f; return e }

// privateBus is a bus of the test's own, which the test may also kill.
type privateBus struct {
	*testhost.Host
	kill func()
}

// systemBus is a private bus that the test finds as the system bus.
func systemBus(t *testing.T) privateBus {
	host, err := testhost.Start(context.Background(), testhost.Options{})
	require.NoError(t, err)
	kill := sync.OnceFunc(func() { require.NoError(t, host.Close()) })
	t.Cleanup(kill)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", host.Address())
	return privateBus{host, kill}
}

// serve puts an engine behind a server on a private bus, and makes that bus the
// system bus of the test.
func serve(t *testing.T, e *engine) (privateBus, *dbus.Conn) {
	bus := systemBus(t)
	e.view.Observation = observer.Observation{State: "desktop", Inferred: policy.Desktop, Confidence: observer.High}
	e.server = server.New(e, root{}, nobody{}, zap.NewNop(), server.Options{Version: "1.2.3"})
	conn := hosttest.Serve(t, bus.Host, e.server.HandleCall)
	require.NoError(t, e.server.Start(conn))
	t.Cleanup(func() { e.server.Stop(context.Background()) })
	return bus, conn
}

// opened is a client that is closed with the test.
func opened(t *testing.T, options Options) *Client {
	c, err := Open(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// calls records what a daemon of the test is asked, with the messages' flags.
type calls struct {
	mu    sync.Mutex
	flags []dbus.Flags
}

func (c *calls) RequestMode(msg dbus.Message, _ string, _ uint64, _ busapi.Dict) (uint64, *dbus.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flags = append(c.flags, msg.Flags)
	return 5, nil
}

func (c *calls) seen() []dbus.Flags {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flags
}

// nobody leaves the bus.
type nobody struct{}

func (nobody) AwaitGone(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
