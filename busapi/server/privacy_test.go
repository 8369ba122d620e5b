package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	obs "github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// refusal is a transition that bob's game blocked, and whose words say so wherever
// a record has words.
func refusal(snapshot obs.Snapshot) status.Record {
	r := status.Record{ID: 8, From: "desktop", To: policy.Compute, Result: status.Blocked, Finished: start}
	r.Guards = guards.Evaluate(
		policy.Default(), snapshot, guards.Request{Target: policy.Compute}, []policy.GuardID{policy.CheckGPUDisplayReleased},
	)
	r.Cause = r.Guards[0].Reason
	r.Guards[0].Remedy = "end " + r.Guards[0].Reason
	r.Steps = []status.Step{{ID: "gate", Error: "gate: " + r.Guards[0].Reason}}
	r.Keep(obs.Secrets(snapshot))
	return r
}

func TestARecordTellsOthersNoProcesses(t *testing.T) {
	h := newHost(t)
	h.looked()
	record := refusal(h.controller.View().Snapshot)
	old := record
	old.ID = 3
	h.controller.with(func(c *fakeController) {
		c.view.Last, c.records = &record, []status.Record{record, old}
		c.view.Snapshot = obs.Snapshot{} // the game has ended long since
	})
	for uid, told := range map[uint32]bool{0: true, 1001: true, 1000: false} {
		h.authorizer.as(uid)
		var list []busapi.Dict
		require.NoError(t, h.call("History").Store(&list))
		for _, id := range []uint64{8, 3} {
			var d busapi.Dict
			require.NoError(t, h.call("GetTransition", id).Store(&d))
			list = append(list, d)
		}
		for _, d := range list {
			got, err := busapi.DecodeRecord(d)
			require.NoError(t, err)
			for _, text := range []string{
				got.Cause, got.Guards[0].Reason, got.Guards[0].Remedy, got.Guards[0].Evidence[0], got.Steps[0].Error,
			} {
				require.Equal(t, told, strings.Contains(text, "secretgame (pid 900, session-2.scope)"), "for uid %d: %s", uid, text)
				require.Equal(
					t, !told, strings.Contains(text, "a process of uid 1001"), "that somebody does is no secret: %s", text,
				)
			}
			require.NotContains(t, d, "private")
		}
	}
	require.Contains(t, record.Steps[0].Error, "secretgame", "what was handed out stays")

	h.authorizer.with(func(a *fakeAuthorizer) { a.uidErr = fmt.Errorf("gone") })
	h.authorizer.forget()
	refused(t, h.call("History"), busapi.ErrAccessDenied, "cannot identify the caller")
	refused(t, h.call("GetTransition", uint64(8)), busapi.ErrAccessDenied, "cannot identify the caller")
}

// What goes out to everybody is the same for root, who may ask for more.
func TestWhatEverybodyHearsTellsOfNobodysProcesses(t *testing.T) {
	h := newHost(t)
	signals := h.subscribe(t)
	h.looked()
	var view status.View
	h.controller.with(func(c *fakeController) {
		record := refusal(c.view.Snapshot)
		c.view.Last, c.view.BlockedBy = &record, record.Guards
		view = c.view
	})
	changed := status.StateChanged{
		Old: "compute", New: view.Observation.State, Reasons: view.Observation.Reasons, Private: obs.Secrets(view.Snapshot),
	}
	require.Contains(t, fmt.Sprint(changed.Reasons, view.Observation.Conflicts, *view.Last, view.BlockedBy), "secretgame")
	h.server.Notify(view, []status.Event{{StateChanged: &changed}, {Finished: view.Last}})

	told := []any{next(t, signals).Body, next(t, signals).Body, next(t, signals).Body}
	var all busapi.Dict
	require.NoError(t, h.object.Call(busapi.PropertiesInterface+".GetAll", 0, busapi.Interface).Store(&all))
	for _, property := range []string{"Degraded", "Conflicts", "LastTransition", "BlockedBy"} {
		value, err := h.object.GetProperty(busapi.Interface + "." + property)
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(value), "a process of uid 1001", property)
		told = append(told, value)
	}
	for _, what := range append(told, all) {
		require.Contains(t, fmt.Sprint(what), "a process of uid 1001")
		require.NotContains(t, fmt.Sprint(what), "secretgame")
		require.NotContains(t, fmt.Sprint(what), "session-2.scope")
	}
}
