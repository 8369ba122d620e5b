package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/internal/zap"
	obs "github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// fakeController is an engine that does what the test says.
type fakeController struct {
	mu       sync.Mutex
	view     status.View
	records  []status.Record
	sessions []uint32
	requests []status.Request
	judged   []status.Request
	looks    int
	filter   status.Filter
	refusals []status.Refusal
	fail     error // of every method that can fail
	held     []status.Inhibitor
	left     chan string // holders that left
	halted   []string
	putOff   time.Duration
	confirms []status.Confirmation
	panics   bool
}

// with reads or changes the controller between two calls.
func (c *fakeController) with(f func(c *fakeController)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}

// asked lists the requests that reached the engine.
func (c *fakeController) asked() []status.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

func (c *fakeController) View() status.View {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.panics {
		panic("the view is broken")
	}
	return c.view
}

func (c *fakeController) Request(_ context.Context, r status.Request) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	return 7, c.fail
}

func (c *fakeController) Record(_ context.Context, id uint64) (status.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return status.Record{}, c.fail
	}
	i := slices.IndexFunc(c.records, func(r status.Record) bool { return r.ID == id })
	if i < 0 {
		return status.Record{}, status.ErrNoSuchTransition
	}
	return c.records[i], nil
}

func (c *fakeController) History(_ context.Context, f status.Filter) ([]status.Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter = f
	return c.records[:min(f.Limit, len(c.records))], c.fail
}

func (c *fakeController) Refused(r status.Refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals = append(c.refusals, r)
}

func (c *fakeController) Observe(context.Context) (status.View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	return c.view, c.fail
}

func (c *fakeController) Judge(_ context.Context, r status.Request, ids []policy.GuardID) ([]guards.Verdict, obs.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	c.judged = append(c.judged, r)
	if len(ids) == 0 {
		ids = []policy.GuardID{policy.CheckTargetReachable, policy.CheckGPUDisplayReleased}
	}
	return guards.Evaluate(policy.Default(), c.view.Snapshot, guards.Request{Target: r.Mode, UID: r.UID, Blast: obs.BlastRadius{Reading: obs.Reading{At: start}}}, ids), c.view.Snapshot, c.fail
}

func (c *fakeController) Plan(ctx context.Context, r status.Request) (status.Preview, obs.Snapshot, error) {
	verdicts, snapshot, err := c.Judge(ctx, r, nil)
	p := aPreview(r, snapshot)
	p.Guards = verdicts
	return p, snapshot, err
}

func (c *fakeController) Inhibit(_ context.Context, i status.Inhibitor) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i.ID = uint32(100 + len(c.held))
	c.held = append(c.held, i)
	c.view.Inhibitors = append(slices.Clip(c.view.Inhibitors), i)
	return i.ID, c.fail
}

func (c *fakeController) Release(_ context.Context, cookie uint32, mine func(status.Inhibitor) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.held {
		if i.ID == cookie && mine(i) {
			c.view.Inhibitors = slices.DeleteFunc(slices.Clone(c.view.Inhibitors), func(other status.Inhibitor) bool { return other.ID == cookie })
			return c.fail
		}
	}
	return status.ErrNoSuchInhibitor
}

func (c *fakeController) HolderLeft(_ context.Context, holder string) error {
	c.left <- holder
	return c.fail
}

func (c *fakeController) Cancel(_ context.Context, id uint64, by string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.halted = append(c.halted, fmt.Sprintf("%d by %s", id, by))
	return c.fail
}

func (c *fakeController) Postpone(_ context.Context, _ uint64, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putOff = d
	return c.fail
}

func (c *fakeController) Confirm(_ context.Context, _ uint64, confirmation status.Confirmation) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirms = append(c.confirms, confirmation)
	return c.fail
}

func (c *fakeController) SessionUIDs() []uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions
}

// fakeAuthorizer answers for one user.
type fakeAuthorizer struct {
	mu      sync.Mutex
	uid     uint32
	uidErr  error
	granted []string // actions
	asked   []string // actions; with a question mark when a person could be asked
	onAsk   func()   // runs while a question is open
}

// with reads or changes the authorizer between two calls.
func (a *fakeAuthorizer) with(f func(a *fakeAuthorizer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a)
}

// as makes every sender that user, with these actions granted.
func (a *fakeAuthorizer) as(uid uint32, granted ...string) {
	a.with(func(a *fakeAuthorizer) { a.uid, a.granted = uid, granted })
}

// questions lists the actions that were asked for.
func (a *fakeAuthorizer) questions() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

func (a *fakeAuthorizer) UID(context.Context, string) (uint32, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.uid, a.uidErr
}

func (a *fakeAuthorizer) Authorize(_ context.Context, _, action string, interactive bool) error {
	a.mu.Lock()
	question := action
	if interactive {
		question += "?"
	}
	a.asked = append(a.asked, question)
	granted, onAsk := slices.Contains(a.granted, action), a.onAsk
	a.mu.Unlock()
	if onAsk != nil {
		onAsk()
	}
	if granted {
		return nil
	}
	return busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted", action)
}

// host is a server on a private bus with a client beside it.
type host struct {
	bus        *testhost.Host
	controller *fakeController
	authorizer *fakeAuthorizer
	server     *Server
	logs       *observer.ObservedLogs
	conn       *dbus.Conn // of the client
	object     dbus.BusObject
}

var start = time.UnixMicro(1_800_000_000_000_000)

func newHost(t *testing.T) *host {
	core, logs := observer.New(zapcore.DebugLevel)
	h := &host{
		bus: hosttest.Start(t, testhost.Options{}),
		controller: &fakeController{left: make(chan string, 8), view: status.View{
			Policy:        policy.Document{Policy: policy.Default()},
			Desired:       status.Desired{Mode: policy.Desktop, Origin: status.OriginBoot, By: "dubniumd", Since: start},
			Observation:   obs.Observation{State: obs.Of(policy.Desktop), Inferred: policy.Desktop, Confidence: obs.High, At: start},
			ObservedSince: start,
		}},
		authorizer: &fakeAuthorizer{},
		logs:       logs,
	}
	presence, err := busconn.Dial(h.bus.Address())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, presence.Close()) })
	h.server = New(hosttest.Connect(t, h.bus), h.controller, h.authorizer, presence, zap.New(core), Options{Version: "1.2.3"})
	require.NoError(t, h.server.Start())
	t.Cleanup(func() { h.server.Stop(t.Context()) })
	h.conn = hosttest.Connect(t, h.bus)
	h.object = h.conn.Object(busapi.BusName, busapi.Path)
	return h
}

// call calls a method of our interface, as modectl does.
func (h *host) call(method string, args ...any) *dbus.Call {
	return h.object.Call(busapi.Interface+"."+method, dbus.FlagNoAutoStart, args...)
}

// refused checks that a call was refused with the sentinel and reads as said.
func refused(t *testing.T, call *dbus.Call, sentinel error, text string) {
	t.Helper()
	require.ErrorIs(t, busapi.FromDBus(call.Err), sentinel)
	require.ErrorContains(t, call.Err, text)
}

// subscribe returns the server's signals from now on.
func (h *host) subscribe(t *testing.T) <-chan *dbus.Signal {
	ch := make(chan *dbus.Signal, 4096)
	h.conn.Signal(ch)
	require.NoError(t, h.conn.AddMatchSignal(dbus.WithMatchObjectPath(busapi.Path)))
	return ch
}

// next waits for the next of the server's signals.
func next(t *testing.T, ch <-chan *dbus.Signal) *dbus.Signal {
	t.Helper()
	for {
		select {
		case s := <-ch:
			if s.Path == busapi.Path {
				return s
			}
		case <-time.After(10 * time.Second):
			require.Fail(t, "no signal came")
		}
	}
}

var noOptions = busapi.Dict{}
