package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	obs "github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// fakeController is an engine that does what the test says.
type fakeController struct {
	mu       sync.Mutex
	view     status.View
	records  []status.Record
	more     bool // there are older ones
	planned  *status.Preview
	requests []status.Request
	judged   []status.Request
	looks    int
	filter   status.Filter
	refusals []status.RejectedRequest
	fail     error // of every method that can fail
	held     []status.Inhibitor
	left     chan string // holders that left
	halted   []string
	haltBy   time.Time // the deadline of the last Cancel
	putOff   time.Duration
	confirms []status.Confirmation
	panics   bool

	onHistory func() // runs while a call is being served
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

func (c *fakeController) History(_ context.Context, f status.Filter) ([]status.Record, bool, error) {
	c.mu.Lock()
	onHistory := c.onHistory
	c.mu.Unlock()
	if onHistory != nil {
		onHistory()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter = f
	return c.records[:min(f.Limit, len(c.records))], c.more, c.fail
}

func (c *fakeController) Rejected(r status.RejectedRequest) {
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

func (c *fakeController) Judge(
	_ context.Context, r status.Request, ids []policy.GuardID,
) ([]guards.Verdict, obs.Snapshot, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	c.judged = append(c.judged, r)
	if len(ids) == 0 {
		ids = []policy.GuardID{policy.CheckTargetReachable, policy.CheckGPUDisplayReleased}
	}
	impact := unitgraph.Impact{Reading: obs.Reading{At: start}}
	asked := guards.Request{Target: r.Mode, UID: r.UID, Impact: impact}
	return guards.Evaluate(policy.Default(), c.view.Snapshot, asked, ids), c.view.Snapshot, c.fail
}

func (c *fakeController) Plan(ctx context.Context, r status.Request) (status.Preview, obs.Snapshot, error) {
	verdicts, snapshot, err := c.Judge(ctx, r, nil)
	if c.planned != nil {
		return *c.planned, snapshot, err
	}
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
			c.view.Inhibitors = slices.DeleteFunc(
				slices.Clone(c.view.Inhibitors), func(other status.Inhibitor) bool { return other.ID == cookie },
			)
			return c.fail
		}
	}
	return status.ErrNoSuchInhibitor
}

func (c *fakeController) HolderLeft(_ context.Context, holder string) error {
	c.left <- holder
	return c.fail
}

func (c *fakeController) Cancel(ctx context.Context, id uint64, by string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.haltBy, _ = ctx.Deadline()
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

// people are the users with a graphical session.
func (c *fakeController) people(uids ...uint32) {
	c.with(func(c *fakeController) {
		c.view.Snapshot.Logind.Sessions = nil
		for i, uid := range uids {
			c.view.Snapshot.Logind.Sessions = append(c.view.Snapshot.Logind.Sessions, obs.Session{
				ID: fmt.Sprint(i), UID: uid, User: fmt.Sprintf("user%d", uid), Class: "user",
				Type: "wayland", Seat: "seat0", State: "active",
			})
		}
	})
}

// fakeAuthorizer answers for one user.
type fakeAuthorizer struct {
	mu      sync.Mutex
	uid     uint32
	uidErr  error
	granted []string // actions
	// challenges are the actions that a password would grant.
	challenges []string
	asked      []string // actions; with a question mark when a person could be asked
	details    []map[string]string
	onAsk      func() // runs while a question is open
	forget     func() // makes the server ask anew whose connections are whose
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
	a.forget()
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

func (a *fakeAuthorizer) Authorize(
	_ context.Context, _, action string, details map[string]string, interactive bool,
) error {
	a.mu.Lock()
	question := action
	if interactive {
		question += "?"
	}
	a.asked, a.details = append(a.asked, question), append(a.details, details)
	granted, onAsk := slices.Contains(a.granted, action), a.onAsk
	challenge := !interactive && slices.Contains(a.challenges, action)
	a.mu.Unlock()
	if onAsk != nil {
		onAsk()
	}
	switch {
	case granted:
		return nil
	case challenge:
		return busapi.Refuse(busapi.ErrInteractionRequired, "%s needs authentication", action)
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

// clock is what rations are kept by.
type clock struct {
	mu   sync.Mutex
	now  time.Time
	step time.Duration // by which it moves with each look at it
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newHost is a host on which every call comes long after the one before.
func newHost(t *testing.T) *host { return newHostBy(t, &clock{now: start, step: time.Hour}) }

func newHostBy(t *testing.T, c *clock) *host {
	core, logs := observer.New(zapcore.DebugLevel)
	h := &host{
		bus: hosttest.Start(t, testhost.Options{}),
		controller: &fakeController{left: make(chan string, 8), view: status.View{
			Policy:  policy.Document{Policy: policy.Default()},
			Desired: status.Desired{Mode: policy.Desktop, Origin: status.OriginBoot, By: "dubniumd", Since: start},
			Observation: obs.Observation{
				State: obs.Of(policy.Desktop), Inferred: policy.Desktop, Confidence: obs.High, At: start,
			},
			ObservedSince: start,
		}},
		authorizer: &fakeAuthorizer{},
		logs:       logs,
	}
	presence, err := busconn.Dial(h.bus.Address())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, presence.Close()) })
	h.server = New(h.controller, h.authorizer, presence, zap.New(core), Options{Version: "1.2.3"})
	h.server.rationBy(c.read)
	h.authorizer.forget = h.server.callers.forget
	require.NoError(t, h.server.Start(hosttest.Serve(t, h.bus, h.server.HandleCall)))
	t.Cleanup(func() { h.server.Stop(t.Context()) })
	h.conn = hosttest.Connect(t, h.bus)
	h.object = h.conn.Object(busapi.BusName, busapi.Path)
	return h
}

// call calls a method of our interface, as modectl does.
func (h *host) call(method string, args ...any) *dbus.Call {
	return callOver(h.object, method, args...)
}

// callOver calls a method of our interface. Flags and options that are not given are
// none.
func callOver(object dbus.BusObject, method string, args ...any) *dbus.Call {
	in, _ := (&Server{}).ownMethods()[method].signature()
	switch strings.TrimPrefix(in, dbus.SignatureOf(args...).String()) {
	case "ta{sv}":
		args = append(args, uint64(0), noOptions)
	case "a{sv}":
		args = append(args, noOptions)
	}
	return object.Call(busapi.Interface+"."+method, dbus.FlagNoAutoStart, args...)
}

// forget makes the next call of every connection ask the bus whose it is.
func (c *callers) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.known)
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
