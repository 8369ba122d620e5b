package testhost

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

const (
	polkitName      = "org.freedesktop.PolicyKit1"
	polkitInterface = polkitName + ".Authority"
	polkitPath      = "/org/freedesktop/PolicyKit1/Authority"
)

// PolkitRequest is one CheckAuthorization as it arrived.
type PolkitRequest struct {
	Caller      string // the unique name that asked
	SubjectKind string // system-bus-name, unix-process, unix-session
	BusName     string // of a system-bus-name subject
	Subject     map[string]dbus.Variant
	Action      string
	Details     map[string]string
	Flags       uint32 // 1: AllowUserInteraction
	CancelID    string
}

// PolkitAnswer is what comes back; Err is sent as an error instead.
type PolkitAnswer struct {
	Authorized, Challenge bool
	Details               map[string]string
	Err                   error
}

// Authorize decides. It may block; ctx ends when the caller cancels the check
// or the host closes.
type Authorize func(ctx context.Context, request PolkitRequest) PolkitAnswer

// AllowAll is what polkit answers unless told otherwise.
func AllowAll(context.Context, PolkitRequest) PolkitAnswer { return PolkitAnswer{Authorized: true} }

// polkit is org.freedesktop.PolicyKit1 (polkit's docs, eggdbus-interface-
// org.freedesktop.PolicyKit1.Authority). Its own lock guards it: a decision may
// take as long as a person does.
type polkit struct {
	service
	mu        sync.Mutex
	authorize Authorize
	requests  []PolkitRequest
	cancels   map[string]context.CancelFunc
	actions   []string
}

// installedActions are those of org.dubnium.mode1.policy, and one of somebody else's.
var installedActions = []string{
	"org.freedesktop.systemd1.manage-units", "org.dubnium.mode1.request-desktop", "org.dubnium.mode1.request-studio-local",
	"org.dubnium.mode1.request-compute", "org.dubnium.mode1.end-other-sessions",
	"org.dubnium.mode1.force", "org.dubnium.mode1.cancel", "org.dubnium.mode1.inhibit-block", "org.dubnium.mode1.inhibit-delay",
}

func newPolkit(h *Host, authorize Authorize) *polkit {
	p := &polkit{authorize: authorize, cancels: map[string]context.CancelFunc{}, actions: installedActions}
	if authorize == nil {
		p.authorize = AllowAll
	}
	p.service = service{
		host: h, name: polkitName, root: polkitPath, lookup: p.find, children: func(dbus.ObjectPath) []string { return nil },
	}
	return p
}

func (p *polkit) find(at dbus.ObjectPath) *object {
	if at != polkitPath {
		return nil
	}
	nothing := func(*call) ([]any, error) { return nil, nil }
	return &object{
		methods: map[string]methods{polkitInterface: {
			"CheckAuthorization":                     {in: "(sa{sv})sa{ss}us", out: "(bba{ss})", call: p.check, unlocked: true},
			"EnumerateActions":                       {in: "s", out: "a(ssssssuuua{ss})", call: p.enumerate},
			"CancelCheckAuthorization":               {in: "s", call: p.cancel},
			"RegisterAuthenticationAgent":            {in: "(sa{sv})ss", call: nothing},
			"RegisterAuthenticationAgentWithOptions": {in: "(sa{sv})ssa{sv}", call: nothing},
			"UnregisterAuthenticationAgent":          {in: "(sa{sv})s", call: nothing},
		}},
		props: map[string]map[string]any{polkitInterface: {
			"BackendName": "js", "BackendVersion": "126", "BackendFeatures": uint32(1),
		}},
	}
}

func (p *polkit) check(c *call) ([]any, error) {
	r := readRequest(c)
	ctx, cancel := context.WithCancel(p.host.ctx)
	defer cancel()
	p.mu.Lock()
	p.requests = append(p.requests, r)
	authorize := p.authorize
	if r.CancelID != "" {
		p.cancels[c.sender+r.CancelID] = cancel
		defer p.forget(c.sender + r.CancelID)
	}
	p.mu.Unlock()
	answer := authorize(ctx, r)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, &sim.Error{Name: polkitName + ".Error.Cancelled", Text: "Authorization check was cancelled"}
	}
	if answer.Err != nil {
		return nil, answer.Err
	}
	if answer.Details == nil {
		answer.Details = map[string]string{}
	}
	return []any{struct {
		Authorized, Challenge bool
		Details               map[string]string
	}{answer.Authorized, answer.Challenge, answer.Details}}, nil
}

// polkitAction is a row of EnumerateActions.
type polkitAction struct {
	ID, Description, Message, Vendor, VendorURL, Icon string
	Any, Inactive, Active                             uint32
	Annotations                                       map[string]string
}

func (p *polkit) enumerate(*call) ([]any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := []polkitAction{}
	for _, id := range p.actions {
		rows = append(rows, polkitAction{ID: id, Annotations: map[string]string{}})
	}
	return []any{rows}, nil
}

// SetPolkitActions changes which actions polkit knows from now on.
func (h *Host) SetPolkitActions(actions ...string) {
	h.polkit.mu.Lock()
	defer h.polkit.mu.Unlock()
	h.polkit.actions = actions
}

func readRequest(c *call) PolkitRequest {
	subject := c.msg.Body[0].([]any)
	r := PolkitRequest{
		Caller: c.sender, SubjectKind: subject[0].(string), Subject: subject[1].(map[string]dbus.Variant),
		Action: c.str(1), Details: c.msg.Body[2].(map[string]string), Flags: c.u32(3), CancelID: c.str(4),
	}
	if name, ok := r.Subject["name"]; ok {
		r.BusName, _ = name.Value().(string)
	}
	return r
}

func (p *polkit) forget(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.cancels, id)
}

func (p *polkit) cancel(c *call) ([]any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel := p.cancels[c.sender+c.str(0)]; cancel != nil {
		cancel()
		return nil, nil
	}
	return nil, &sim.Error{Name: polkitName + ".Error.Failed", Text: "No such cancellation_id for name"}
}

// SetAuthorize changes who decides from now on; nil allows all.
func (h *Host) SetAuthorize(authorize Authorize) {
	if authorize == nil {
		authorize = AllowAll
	}
	h.polkit.mu.Lock()
	defer h.polkit.mu.Unlock()
	h.polkit.authorize = authorize
}

// PolkitRequests lists what was asked so far.
func (h *Host) PolkitRequests() []PolkitRequest {
	h.polkit.mu.Lock()
	defer h.polkit.mu.Unlock()
	return slices.Clone(h.polkit.requests)
}
