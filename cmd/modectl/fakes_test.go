package main

import (
	"bytes"
	"context"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

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

// engine is a controller behind the real server that ends every request with the
// same record, or refuses it.
type engine struct {
	server.Controller // what no test asks of it

	mu       sync.Mutex
	view     status.View
	verdicts []guards.Verdict
	preview  status.Preview
	ends     status.Record
	refuses  error
	hangs    bool // accepted requests never end
	requests []status.Request
	looks    int
	// confirmed are the ids that were.
	confirmed []uint64
	kept      []status.Record // the history, the latest first
	filters   []status.Filter // that it was asked with
	server    *server.Server
}

func (e *engine) View() status.View {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.view
}

func (e *engine) Request(_ context.Context, r status.Request) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.requests = append(e.requests, r)
	if e.refuses != nil {
		return 0, e.refuses
	}
	running := status.Transition{ID: 7, From: "desktop", To: r.Mode, Started: begin}
	e.view.Running = &running
	e.server.Notify(e.view, []status.Event{{Started: &running}})
	if !e.hangs {
		go e.finish()
	}
	return 7, nil
}

// finish announces two steps and the end.
func (e *engine) finish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	record := e.ends
	e.view.Running, e.view.Last = nil, &record
	step := func(index int, name string, s status.StepStatus) status.Event {
		return status.Event{Step: &status.StepEvent{ID: 7, Index: index, Count: 2, Step: name, Status: s}}
	}
	e.server.Notify(e.view, []status.Event{
		step(0, "stop-dm", status.StepDoing), step(0, "stop-dm", status.StepDone), step(1, "isolate", status.StepDoing),
		{Finished: &record},
	})
}

func (e *engine) Record(_ context.Context, id uint64) (status.Record, error) {
	for _, r := range e.kept {
		if r.ID == id {
			return r, nil
		}
	}
	return status.Record{}, status.ErrNoSuchTransition
}

func (e *engine) History(_ context.Context, f status.Filter) ([]status.Record, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.filters = append(e.filters, f)
	return slices.Clone(e.kept), false, nil
}

// searched lists the filters so far.
func (e *engine) searched() []status.Filter {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.filters)
}

func (e *engine) Rejected(status.RejectedRequest) {}

func (e *engine) Observe(context.Context) (status.View, error) {
	e.mu.Lock()
	e.looks++
	e.mu.Unlock()
	return e.View(), nil
}

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
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.preview
	p.To, p.Guards = r.Mode, e.verdicts
	return p, observer.Snapshot{}, e.refuses
}

func (e *engine) Confirm(_ context.Context, id uint64, _ status.Confirmation) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.confirmed = append(e.confirmed, id)
	return e.refuses
}

// asked lists the requests so far.
func (e *engine) asked() []status.Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.requests)
}

// looked is how often the host was looked at afresh.
func (e *engine) looked() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.looks
}

// authorizer answers every question the same way.
type authorizer struct {
	uid    uint32
	answer error
}

func (a authorizer) UID(context.Context, string) (uint32, error) { return a.uid, nil }
func (a authorizer) Authorize(context.Context, string, string, map[string]string, bool) error {
	return a.answer
}

var desktop = status.View{
	Policy:  policy.Document{Policy: policy.Default()},
	Desired: status.Desired{Mode: policy.Desktop, Origin: status.OriginBoot, By: "dubniumd", Since: begin},
	Observation: observer.Observation{
		State: "desktop", Inferred: policy.Desktop, Confidence: observer.High, At: begin,
		Facts: observer.Facts{observer.DesktopTarget: {Truth: observer.True}},
	},
	ObservedSince: begin,
}

// serve puts the engine behind a real server on a private bus, which the test
// finds as the system bus.
func serve(t *testing.T, e *engine, a authorizer) {
	bus := hosttest.Start(t, testhost.Options{})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	e.view = desktop
	e.server = server.New(e, a, nobody{}, zap.NewNop(), server.Options{Version: "1.2.3"})
	require.NoError(t, e.server.Start(hosttest.Serve(t, bus, e.server.HandleCall)))
	t.Cleanup(func() { e.server.Stop(context.Background()) })
}

// ran is what one run of modectl left behind.
type ran struct {
	code           int
	stdout, stderr string
}

func modectl(ctx context.Context, args ...string) ran {
	var out, err bytes.Buffer
	code := run(ctx, args, streams{stdout: &out, stderr: &err})
	return ran{code, out.String(), err.String()}
}

// nobody leaves the bus.
type nobody struct{}

func (nobody) AwaitGone(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
