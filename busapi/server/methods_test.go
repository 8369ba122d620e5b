package server

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/busconn"
	obs "github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

var nosuch = status.ErrNoSuchTransition

func TestRootNeedsNoPolkit(t *testing.T) {
	h := newHost(t)
	h.controller.people(1000, 1001)
	var id uint64
	options := busapi.Dict{busapi.OptionReason: dbus.MakeVariant("nightly batch")}
	require.NoError(t, h.call("RequestMode", "compute", uint64(0), options).Store(&id))
	require.Equal(t, uint64(7), id)
	require.Empty(t, h.authorizer.questions())
	require.Equal(t, []status.Request{{
		Mode: policy.Compute, Origin: status.OriginOperator, By: "uid 0 (root)", UID: 0, EndOthers: true,
		Why: "nightly batch", Authorization: status.ByCredentials,
	}}, h.controller.asked())
}

// The policy travels whole: whoever reads it back has every key and its origin.
func TestThePolicyIsTold(t *testing.T) {
	h := newHost(t)
	d, err := policy.ParseDocument("/etc/dubnium/policy.toml", []byte("[paths]\nstate = \"/state\""))
	require.NoError(t, err)
	h.controller.with(func(c *fakeController) { c.view.Policy = d })
	var reply busapi.Dict
	require.NoError(t, h.call("GetPolicy").Store(&reply))
	got, err := busapi.DecodePolicy(reply)
	require.NoError(t, err)
	require.Equal(t, busapi.Policy{File: d.File, Settings: d.Settings()}, got)
}

func TestMalformedRequestsAreRefusedBeforeAnyoneIsAsked(t *testing.T) {
	cases := map[string]struct {
		mode     string
		flags    uint64
		options  busapi.Dict
		sentinel error
		text     string
	}{
		"unknown mode": {
			"sauna", 0, noOptions, busapi.ErrUnknownMode,
			`unknown mode "sauna": the modes are desktop, studio-local, compute`,
		},
		"no mode": {"", 0, noOptions, busapi.ErrUnknownMode, `unknown mode ""`},
		"a state": {"degraded-desktop", 0, noOptions, busapi.ErrUnknownMode, "unknown mode"},
		"unknown option": {
			"desktop", 0, busapi.Dict{"grace": dbus.MakeVariant("1")}, busapi.ErrBadOption, `unknown option "grace"`,
		},
		"reason of a type": {
			"desktop", 0, busapi.Dict{"reason": dbus.MakeVariant(int32(1))}, busapi.ErrBadOption, "of type i, not s",
		},
		"endless reason": {
			"desktop", 0, busapi.Dict{"reason": dbus.MakeVariant(strings.Repeat("x", 257))}, busapi.ErrBadOption, "257 bytes",
		},
		"escape codes": {
			"desktop", 0, busapi.Dict{"reason": dbus.MakeVariant("\x1b[2J")}, busapi.ErrBadOption, "unprintable characters",
		},
	}
	for bit := 1; bit < 64; bit++ {
		cases[fmt.Sprintf("flag %d", bit)] = struct {
			mode     string
			flags    uint64
			options  busapi.Dict
			sentinel error
			text     string
		}{"desktop", 1 << bit, noOptions, busapi.ErrBadOption, "unknown flag bits"}
	}
	h := newHost(t)
	h.authorizer.as(1000)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			refused(t, h.call("RequestMode", c.mode, c.flags, c.options), c.sentinel, c.text)
		})
	}
	require.Empty(t, h.authorizer.questions())
	require.Empty(t, h.controller.asked())
}

func TestTheEnginesRefusalReachesTheCaller(t *testing.T) {
	h := newHost(t)
	for _, sentinel := range []error{status.ErrBusy, status.ErrShuttingDown} {
		h.controller.with(func(c *fakeController) { c.fail = fmt.Errorf("transition 3 to compute: %w", sentinel) })
		refused(t, h.call("RequestMode", "desktop", uint64(0), noOptions), sentinel, "transition 3 to compute: ")
	}
}

func TestGetTransitionTellsHowItStands(t *testing.T) {
	h := newHost(t)
	running := status.Transition{ID: 9, From: "desktop", To: policy.Compute, Phase: status.PhaseActing, Started: start}
	last := status.Record{ID: 8, To: policy.Desktop, Result: status.Success, Finished: start}
	old := status.Record{ID: 3, To: policy.Compute, Result: status.Failed, Cause: "no", Finished: start}
	h.controller.with(func(c *fakeController) {
		c.view.Running, c.view.Last = &running, &last
		c.records = []status.Record{old}
	})
	want := map[uint64]busapi.Outcome{9: {Running: &running}, 8: {Finished: &last}, 3: {Finished: &old}}
	for id, outcome := range want {
		var d busapi.Dict
		require.NoError(t, h.call("GetTransition", id).Store(&d))
		got, err := busapi.DecodeOutcome(d)
		require.NoError(t, err)
		require.Equal(t, outcome, got)
	}
	refused(t, h.call("GetTransition", uint64(4)), nosuch, "no record of a transition 4 is kept")
	h.controller.with(func(c *fakeController) { c.fail = errors.New("disk on fire") })
	require.ErrorContains(
		t, h.call("GetTransition", uint64(4)).Err, "cannot read the record of transition 4: disk on fire",
	)
}

func TestHistoryIsBoundedAndStrict(t *testing.T) {
	h := newHost(t)
	h.controller.with(func(c *fakeController) { c.records = make([]status.Record, 30) })
	alice := uint32(1000)
	for _, want := range []status.Filter{
		{},
		{Limit: 1},
		{Limit: busapi.MaxHistory},
		{
			Since: start, Until: start.Add(time.Hour), Result: status.Blocked, Mode: policy.Compute, By: "alice", UID: &alice,
			ID: 3, Limit: 5,
		},
	} {
		var records []busapi.Dict
		require.NoError(t, h.call("History", uint64(0), busapi.EncodeFilter(want)).Store(&records))
		want.Limit = cmp.Or(want.Limit, busapi.DefaultHistory)
		h.controller.with(func(c *fakeController) { require.Equal(t, want, c.filter) })
		require.Len(t, records, min(want.Limit, 30))
	}
	refusals := map[string]busapi.Dict{
		"is 0, not 1 to 1000":            {"limit": dbus.MakeVariant(uint32(0))},
		"is 1001, not 1 to 1000":         {"limit": dbus.MakeVariant(uint32(1001))},
		"limit is of type i, not u":      {"limit": dbus.MakeVariant(int32(5))},
		"since is of type s, not t":      {"since": dbus.MakeVariant("today")},
		"is out of range":                {"until": dbus.MakeVariant(uint64(math.MaxUint64))},
		`"sauna", which is not a result`: {"result": dbus.MakeVariant("sauna")},
		"result is of type u, not s":     {"result": dbus.MakeVariant(uint32(1))},
		"mode is of type u, not s":       {"mode": dbus.MakeVariant(uint32(1))},
		"by is of type u, not s":         {"by": dbus.MakeVariant(uint32(1))},
		"uid is of type s, not u":        {"uid": dbus.MakeVariant("0")},
		"id is of type u, not t":         {"id": dbus.MakeVariant(uint32(1))},
		`unknown option "colour"`:        {"colour": dbus.MakeVariant("blue"), "limit": dbus.MakeVariant(uint32(1))},
	}
	for text, filter := range refusals {
		refused(t, h.call("History", uint64(0), filter), busapi.ErrBadOption, text)
	}
	refused(
		t, h.call("History", uint64(0), busapi.Dict{"mode": dbus.MakeVariant("sauna")}), busapi.ErrUnknownMode,
		"the filter key mode",
	)
}

// Every request that is turned down is on record: who, what for, and why.
func TestRefusalsAreTold(t *testing.T) {
	h := newHost(t)
	h.authorizer.as(1000)
	words := busapi.Dict{"reason": dbus.MakeVariant("please")}
	require.Error(t, h.call("RequestMode", strings.Repeat("x", 5000), uint64(0), words).Err)
	require.Error(t, h.call("RequestMode", "compute", uint64(2), noOptions).Err)
	require.Error(t, h.call("RequestMode", "compute", uint64(0), noOptions).Err)
	h.authorizer.as(0)
	h.controller.with(func(c *fakeController) { c.fail = status.ErrBusy })
	require.Error(t, h.call("RequestMode", "compute", uint64(0), noOptions).Err)

	var got []string
	h.controller.with(func(c *fakeController) {
		for _, r := range c.refusals {
			got = append(got, fmt.Sprint(r.Asked, ": ", r.Reason, " to ", r.UID))
			require.LessOrEqual(t, len(r.Text), busapi.MaxErrorText)
		}
		require.Len(t, c.refusals[0].Mode, busapi.MaxReason)
		require.Equal(t, "compute", c.refusals[2].Mode)
		require.Equal(t, "uid 0 (root)", c.refusals[3].By)
	})
	require.Equal(t, []string{
		"request: UnknownMode to 1000", "request: BadOption to 1000", "request: AccessDenied to 1000", "request: Busy to 0",
	}, got)

	h.authorizer.as(1000)
	h.controller.with(func(c *fakeController) { c.refusals, c.fail = nil, nil })
	require.Error(t, h.call("RequestMode", "compute", uint64(0), words).Err)
	h.controller.with(func(c *fakeController) { require.Equal(t, "please", c.refusals[0].Why); c.refusals = nil })
	require.Error(t, h.call("CancelTransition", uint64(99)).Err)
	require.Error(t, h.call("PostponeTransition", uint64(99), uint32(0)).Err)
	require.Error(t, h.call("Inhibit", "compute", "backup", "a snapshot", "block").Err)
	require.Error(t, h.call("ConfirmMode", uint64(99)).Err)
	h.controller.with(func(c *fakeController) {
		got = nil
		for _, r := range c.refusals {
			got = append(got, r.Asked+" "+r.Mode+" "+r.Why+" "+r.Reason)
		}
		c.refusals = nil
	})
	require.Equal(
		t,
		[]string{
			"cancel   NoSuchTransition", "postpone   BadOption", "inhibit compute a snapshot AccessDenied",
			"confirm   NoSuchTransition",
		},
		got,
	)

	h.authorizer.as(1000, busapi.ActionRequest(policy.Compute), busapi.ActionEndOtherSessions)
	h.controller.people(1001)
	h.controller.with(func(c *fakeController) { c.fail, c.requests = nil, nil })
	require.NoError(t, h.call("RequestMode", "compute", uint64(0), noOptions).Err)
	require.Equal(
		t, "polkit org.dubnium.mode1.request-compute, org.dubnium.mode1.end-other-sessions",
		h.controller.asked()[0].Authorization,
	)
	h.controller.with(func(c *fakeController) { require.Empty(t, c.refusals, "what is accepted is no refusal") })
}

func TestObserveLooksAfreshAndReturnsTheEvidence(t *testing.T) {
	h := newHost(t)
	var d busapi.Dict
	require.NoError(t, h.call("Observe", uint64(0)).Store(&d))
	h.controller.with(func(c *fakeController) { require.Equal(t, 1, c.looks) })
	got, err := busapi.DecodeEvidence(d)
	require.NoError(t, err)
	require.Equal(t, policy.Desktop, got.Observation.Inferred)
	require.True(t, start.Equal(got.Since))

	refused(t, h.call("Observe", uint64(1)), busapi.ErrBadOption, "unknown flag bits 0x1")
	h.controller.with(func(c *fakeController) { c.fail = errors.New("no logind") })
	require.ErrorContains(t, h.call("Observe", uint64(0)).Err, "cannot read the host: no logind")
}

// looked is a compute that a stranger's process stands in the way of.
func (h *host) looked() {
	snapshot := obs.Snapshot{
		Systemd: obs.Systemd{Reading: obs.Reading{At: start}, State: "running", Units: map[string]obs.Unit{
			"compute.target": {LoadState: "loaded", ActiveState: "active"}, "desktop.target": {
				LoadState: "loaded", ActiveState: "inactive",
			},
		}},
		Logind: obs.Logind{Reading: obs.Reading{At: start}},
		Processes: obs.ProcessScan{
			Reading: obs.Reading{At: start}, GPUs: []obs.GPU{{PCI: "0000:01:00.0", Display: true}},
			Holders: []obs.Holder{{GPU: "0000:01:00.0", PID: 900, Command: "secretgame", UID: 1001, Unit: "session-2.scope"}},
		},
	}
	h.controller.with(func(c *fakeController) {
		c.view.Snapshot = snapshot
		c.view.Observation = obs.Classify(policy.Default(), snapshot, obs.Context{}, start)
	})
}

func TestOnlyRootReadsOfOtherPeoplesProcesses(t *testing.T) {
	h := newHost(t)
	h.looked()
	for uid, told := range map[uint32]bool{0: true, 1001: true, 1000: false} {
		h.authorizer.as(uid)
		for method, arg := range map[string]any{"Observe": uint64(0), "Explain": ""} {
			var d busapi.Dict
			require.NoError(t, h.call(method, arg).Store(&d))
			require.Equal(t, told, strings.Contains(fmt.Sprint(d), "secretgame"), "%s for uid %d", method, uid)
			require.Equal(
				t, !told, strings.Contains(fmt.Sprint(d), "a process of uid 1001 holds"), "that somebody does is no secret",
			)
		}
	}
}

func TestObserveReturnsWhatTheSourcesSaw(t *testing.T) {
	h := newHost(t)
	h.looked()
	var d busapi.Dict
	require.NoError(t, h.call("Observe", uint64(0)).Store(&d))
	got, err := busapi.DecodeEvidence(d)
	require.NoError(t, err)
	require.Equal(t, "running", got.Snapshot.Systemd.State)
	require.Len(t, got.Snapshot.Processes.Holders, 1)
	require.Equal(t, h.controller.View().Snapshot.Fingerprint(), got.Fingerprint)
	require.False(t, got.Redacted)
	p, err := policy.Parse("evidence", []byte(got.Policy))
	require.NoError(t, err)
	require.Equal(t, policy.Default(), p)
}

func TestExplainSaysWhatStandsAgainstAMode(t *testing.T) {
	h := newHost(t)
	h.looked()
	explain := func(mode string) obs.Explanation {
		var d busapi.Dict
		require.NoError(t, h.call("Explain", mode).Store(&d))
		e, err := busapi.DecodeExplanation(d)
		require.NoError(t, err)
		return e
	}
	require.Len(t, explain("").Modes, 3)
	e := explain("compute")
	require.Equal(t, obs.StateUnknown, e.State)
	require.Len(t, e.Modes, 1)
	require.NotEmpty(t, e.Modes[0].Against)
	require.Equal(t, obs.ContractOf(policy.Default(), policy.Compute).Guards, e.Contract.Guards)
	require.Equal(t, "compute.target", e.Contract.Target)
	require.Nil(t, explain("").Contract)
	refused(t, h.call("Explain", "sauna"), busapi.ErrUnknownMode, `unknown mode "sauna"`)
	h.controller.with(func(c *fakeController) { require.Zero(t, c.looks) })
	h.authorizer.with(func(a *fakeAuthorizer) { a.uidErr = errors.New("gone") })
	h.authorizer.forget()
	refused(t, h.call("Explain", ""), busapi.ErrAccessDenied, "cannot identify the caller: gone")
}

func TestReconcileAsksAgainForWhatIsDesired(t *testing.T) {
	h := newHost(t)
	h.controller.with(func(c *fakeController) { c.view.Desired.Mode = policy.StudioLocal })
	var id uint64
	require.NoError(t, h.call("Reconcile").Store(&id))
	require.Equal(t, uint64(7), id)
	target := func(value any) busapi.Dict { return busapi.Dict{busapi.OptionTarget: dbus.MakeVariant(value)} }
	require.NoError(t, h.call("Reconcile", busapi.FlagNoWait, target("compute")).Err)
	refused(t, h.call("Reconcile", uint64(0), target("sauna")), busapi.ErrUnknownMode, "sauna")
	refused(t, h.call("Reconcile", uint64(0), target(uint32(1))), busapi.ErrBadOption, "of type u, not s")
	refused(
		t, h.call("Reconcile", uint64(0), busapi.Dict{"reason": dbus.MakeVariant("x")}), busapi.ErrBadOption,
		"the options are target",
	)

	asked := h.controller.asked()
	require.Len(t, asked, 2)
	require.Equal(t, []any{policy.StudioLocal, true, false}, []any{asked[0].Mode, asked[0].KeepTerms, asked[0].NoWait})
	require.Equal(t, []any{policy.Compute, false, true}, []any{asked[1].Mode, asked[1].KeepTerms, asked[1].NoWait})
	h.authorizer.as(1000)
	refused(t, h.call("Reconcile"), busapi.ErrAccessDenied, "request-studio-local was not granted")
}

// An option that is a container is not decoded: its type is all that is known of it.
func TestAnOptionThatIsAContainerIsRefused(t *testing.T) {
	h := newHost(t)
	for _, value := range []any{
		[]string{"x"}, map[string]dbus.Variant{"a": dbus.MakeVariant("b")}, []byte{1}, map[float64]string{1: "x"},
	} {
		variant := dbus.MakeVariant(value)
		refused(t, h.call("RequestMode", "desktop", uint64(0), busapi.Dict{"reason": variant}),
			busapi.ErrBadOption, "of type "+variant.Signature().String()+", not s")
	}
	require.Empty(t, h.controller.asked())
}

// Set is always refused, whatever it carries.
func TestSetTakesAnyValueAndRefuses(t *testing.T) {
	h := newHost(t)
	for _, value := range []any{"x", []string{"x"}, map[float64]string{1: "x"}} {
		call := h.object.Call(busapi.PropertiesInterface+".Set", 0, busapi.Interface, "Version", dbus.MakeVariant(value))
		refused(t, call, busapi.ErrPropertyReadOnly, "cannot be set")
	}
}

func TestALongMessageIsRefusedUnread(t *testing.T) {
	h := newHost(t)
	long := strings.Repeat("x", busconn.MaxUnasked)
	refused(t, h.call("RequestMode", long), busapi.ErrInvalidArgs, "accepts at most 65536 bytes")
	refused(t, h.object.Call("Nothing", 0, long), busapi.ErrUnknownMethod, "Nothing")
	require.NoError(t, h.call("GetPolicy").Err)
}

func TestEveryObjectAnswersPeer(t *testing.T) {
	h := newHost(t)
	for _, path := range []dbus.ObjectPath{"/", busapi.Path, "/somewhere/else"} {
		require.NoError(t, h.conn.Object(busapi.BusName, path).Call(busapi.PeerInterface+".Ping", 0).Err)
	}
	refused(
		t, h.conn.Object(busapi.BusName, "/somewhere").Call(busapi.IntrospectableInterface+".Introspect", 0),
		busapi.ErrUnknownObject, "/somewhere",
	)
	call := h.conn.Object(busapi.BusName, "/").Call(busapi.Interface+".GetPolicy", 0)
	refused(t, call, busapi.ErrUnknownObject, `no object "/"`)
	refused(t, h.object.Call("org.example.Other.Do", 0), busapi.ErrUnknownInterface, "org.example.Other")
	refused(t, h.object.Call(busapi.Interface+".Do", 0), busapi.ErrUnknownMethod, `no method "Do"`)
}
