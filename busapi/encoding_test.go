package busapi

import (
	"bytes"
	"encoding/binary"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// travel sends values through the wire format and back, so that a round trip
// meets the types that a client meets.
func travel(t require.TestingT, body ...any) []any {
	msg := &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath:      dbus.MakeVariant(Path),
		dbus.FieldInterface: dbus.MakeVariant(Interface),
		dbus.FieldMember:    dbus.MakeVariant("Test"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
	}, Body: body}
	var wire bytes.Buffer
	require.NoError(t, msg.EncodeTo(&wire, binary.LittleEndian))
	// A serial of 0 is not valid; the connection sets it, and here nobody does.
	binary.LittleEndian.PutUint32(wire.Bytes()[8:], 1)
	got, err := dbus.DecodeMessage(&wire)
	require.NoError(t, err)
	return got.Body
}

func travelDict(t require.TestingT, d Dict) Dict { return travel(t, d)[0].(Dict) }

var (
	genText = rapid.String().Filter(func(s string) bool { return text(s) == s })
	genTime = rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "known") {
			return time.UnixMicro(rapid.Int64Range(1, 1<<52).Draw(t, "us"))
		}
		return time.Time{}
	})
	genMode  = rapid.SampledFrom(policy.Modes())
	genState = rapid.SampledFrom([]observer.State{
		observer.Boot, observer.Transitioning, observer.FailedTransition, observer.StateUnknown,
		observer.Of(policy.Compute), observer.DegradedOf(policy.StudioLocal),
	})
)

func drawWord[T ~string](t *rapid.T, label string) T { return T(genText.Draw(t, label)) }

var genVerdict = rapid.Custom(func(t *rapid.T) guards.Verdict {
	v := guards.Verdict{
		Guard:  drawWord[policy.GuardID](t, "guard"),
		OK:     rapid.Bool().Draw(t, "ok"),
		Code:   policy.Code(rapid.IntRange(0, 30).Draw(t, "code")),
		Hard:   rapid.Bool().Draw(t, "hard"),
		Reason: genText.Draw(t, "reason"),
		Remedy: genText.Draw(t, "remedy"),
	}
	if evidence := rapid.SliceOfN(genText, 0, 3).Draw(t, "evidence"); len(evidence) > 0 {
		v.Evidence = evidence
	}
	return v
})

var genGPUMemory = rapid.Custom(func(t *rapid.T) observer.GPUMemory {
	return observer.GPUMemory{GPU: genText.Draw(t, "gpu"), Bytes: rapid.Uint64().Draw(t, "bytes")}
})

var genStep = rapid.Custom(func(t *rapid.T) status.Step {
	return status.Step{
		ID: genText.Draw(t, "id"), Status: drawWord[status.StepStatus](t, "status"), Error: genText.Draw(t, "error"),
		Started: genTime.Draw(t, "started"), Finished: genTime.Draw(t, "finished"),
		UndoError: genText.Draw(t, "undo error"), UndoStarted: genTime.Draw(t, "undo started"),
		UndoFinished: genTime.Draw(t, "undo finished"),
		Notes:        some(t, genText, "notes"), Residual: some(t, genGPUMemory, "residual"),
	}
})

var genReason = rapid.Custom(func(t *rapid.T) observer.Reason {
	return observer.Reason{Code: genText.Draw(t, "code"), Text: genText.Draw(t, "text")}
})

// some draws a list whose empty form is nil, as a decoder returns it.
func some[T any](t *rapid.T, g *rapid.Generator[T], label string) []T {
	if list := rapid.SliceOfN(g, 0, 3).Draw(t, label); len(list) > 0 {
		return list
	}
	return nil
}

var genRecord = rapid.Custom(func(t *rapid.T) status.Record {
	return status.Record{
		ID: rapid.Uint64().Draw(t, "id"), From: genState.Draw(t, "from"), To: genMode.Draw(t, "to"),
		Final: genState.Draw(t, "final"), Result: drawWord[status.Result](t, "result"), Cause: genText.Draw(t, "cause"),
		Origin: drawWord[status.Origin](t, "origin"), By: genText.Draw(t, "by"), Why: genText.Draw(t, "why"),
		Authorization: genText.Draw(t, "authorization"), UID: rapid.Ptr(rapid.Uint32(), true).Draw(t, "uid"),
		Started: genTime.Draw(t, "started"), Judged: genTime.Draw(t, "judged"), Finished: genTime.Draw(t, "finished"),
		Guards: some(t, genVerdict, "guards"), Forced: some(
			t, rapid.SampledFrom([]policy.GuardID{policy.CheckCPULoadSafe, policy.CheckUserJobsSafe}), "forced",
		), Steps: some(t, genStep, "steps"),
	}
})

var genTransition = rapid.Custom(func(t *rapid.T) status.Transition {
	return status.Transition{
		ID: rapid.Uint64().Draw(t, "id"), From: genState.Draw(t, "from"), To: genMode.Draw(t, "to"),
		Origin: drawWord[status.Origin](t, "origin"), By: genText.Draw(t, "by"), Phase: drawWord[status.Phase](t, "phase"),
		Step: genText.Draw(t, "step"), StepIndex: rapid.IntRange(0, 99).Draw(t, "index"),
		StepCount: rapid.IntRange(0, 99).Draw(t, "count"), Started: genTime.Draw(t, "started"),
		Progress: genText.Draw(t, "progress"),
		Deadline: genTime.Draw(t, "deadline"), Cancellable: rapid.Bool().Draw(t, "cancellable"),
	}
})

var genInhibitor = rapid.Custom(func(t *rapid.T) status.Inhibitor {
	return status.Inhibitor{
		ID: rapid.Uint32().Draw(t, "id"), Mode: drawWord[policy.Mode](t, "mode"), Who: genText.Draw(t, "who"),
		Why: genText.Draw(t, "why"),
		How: drawWord[status.How](t, "how"), UID: rapid.Uint32().Draw(t, "uid"), Since: genTime.Draw(t, "since"),
	}
})

// genFacts draws facts as they travel in full, or in short: then only the truth
// and the reason of an unknown one.
func genFacts(full bool) *rapid.Generator[observer.Facts] {
	return rapid.Custom(func(t *rapid.T) observer.Facts {
		facts := observer.Facts{}
		for _, s := range append(observer.Signals(), observer.UnitSignal("cups.service")) {
			f := observer.Fact{
				Truth: rapid.SampledFrom([]observer.Truth{observer.Unknown, observer.False, observer.True}).Draw(t, string(s)),
			}
			if full {
				f.Source, f.At = genText.Draw(t, "source"), genTime.Draw(t, "at")
				f.Bound = time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "bound")) * time.Microsecond
			}
			if full || f.Truth == observer.Unknown {
				f.Reason = genText.Draw(t, "reason")
			}
			facts[s] = f
		}
		return facts
	})
}

func genObservation(full bool) *rapid.Generator[observer.Observation] {
	return rapid.Custom(func(t *rapid.T) observer.Observation {
		o := observer.Observation{
			State: genState.Draw(t, "state"), Confidence: rapid.SampledFrom(
				[]observer.Confidence{observer.High, observer.Low},
			).Draw(t, "confidence"),
			Reasons: some(t, genReason, "reasons"), Conflicts: some(t, genReason, "conflicts"),
			Facts: genFacts(full).Draw(t, "facts"), At: genTime.Draw(t, "at"),
		}
		if o.Inferred = modeOf(o.State); full {
			o.Inferred = genMode.Draw(t, "inferred")
			o.Rule, o.Expires = drawWord[observer.Rule](t, "rule"), genTime.Draw(t, "expires")
			o.Context = observer.Context{
				InFlight: rapid.Bool().Draw(t, "in flight"), Desired: drawWord[policy.Mode](t, "desired"),
				LastFailed: rapid.Bool().Draw(t, "failed"),
			}
		}
		return o
	})
}

var genProperties = rapid.Custom(func(t *rapid.T) Properties {
	p := Properties{Version: genText.Draw(t, "version"), Modes: some(t, genMode, "modes"), View: status.View{
		Desired: status.Desired{
			Mode: genMode.Draw(t, "desired"), Origin: drawWord[status.Origin](t, "origin"),
			By: genText.Draw(t, "by"), Since: genTime.Draw(t, "since"),
		},
		Observation: genObservation(false).Draw(t, "observation"), ObservedSince: genTime.Draw(t, "observed since"),
		BlockedBy: some(t, genVerdict, "blocked by"), Inhibitors: some(t, genInhibitor, "inhibitors"),
		Warnings: some(t, genReason, "warnings"),
	}}
	if places := rapid.MapOfN(
		genText, rapid.SampledFrom([]policy.Place{policy.Local, policy.Remote}), 0, 3,
	).Draw(t, "placement"); len(places) > 0 {
		p.View.Placement = places
	}
	fill(t, reflect.ValueOf(&p.View.Topology).Elem())
	fill(t, reflect.ValueOf(&p.View.Reconcile).Elem())
	if rapid.Bool().Draw(t, "leased?") {
		p.View.Lease = new(status.Lease)
		fill(t, reflect.ValueOf(p.View.Lease).Elem())
	}
	if rapid.Bool().Draw(t, "running?") {
		running := genTransition.Draw(t, "running")
		p.View.Running = &running
	}
	if rapid.Bool().Draw(t, "last?") {
		last := genRecord.Draw(t, "last")
		p.View.Last = &last
	}
	return p
})

func TestPropertiesSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genProperties.Draw(t, "properties")
		encoded := EncodeProperties(want)
		got, err := DecodeProperties(travelDict(t, encoded))
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, want.View.Converged(), encoded["Converged"].Value())
		require.Empty(t, Changed(encoded, EncodeProperties(want)), "the same values are no change")
	})
}

func TestEvidenceSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Evidence{
			Observation: genObservation(true).Draw(t, "observation"), Since: genTime.Draw(t, "since"),
			Fingerprint: genText.Draw(t, "fingerprint"), Redacted: rapid.Bool().Draw(t, "redacted"),
			Policy: genText.Draw(t, "policy"),
		}
		fill(t, reflect.ValueOf(&want.Snapshot).Elem())
		got, err := DecodeEvidence(travelDict(t, EncodeEvidence(want)))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestHistorySurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := some(t, genRecord, "records")
		got, err := DecodeHistory(travel(t, EncodeHistory(want))[0].([]Dict))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestEventsSurviveTheWire(t *testing.T) {
	genEvent := rapid.Custom(func(t *rapid.T) status.Event {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return status.Event{StateChanged: &status.StateChanged{
				Old: genState.Draw(t, "old"), New: genState.Draw(t, "new"), Reasons: some(t, genReason, "reasons"),
			}}
		case 1:
			started := genTransition.Draw(t, "started")
			return status.Event{Started: &started}
		case 2:
			return status.Event{Step: &status.StepEvent{
				ID: rapid.Uint64().Draw(t, "id"), Index: rapid.IntRange(0, 99).Draw(t, "index"),
				Count: rapid.IntRange(0, 99).Draw(t, "count"), Step: genText.Draw(t, "step"),
				Status: drawWord[status.StepStatus](t, "status"),
			}}
		case 3:
			return status.Event{Progress: &status.StepProgress{
				ID: rapid.Uint64().Draw(t, "id"), Index: rapid.IntRange(0, 99).Draw(t, "index"),
				Count: rapid.IntRange(0, 99).Draw(t, "count"), Step: genText.Draw(t, "step"), Text: genText.Draw(t, "text"),
			}}
		case 4:
			return status.Event{Prepare: &status.Prepare{
				Begin: rapid.Bool().Draw(t, "begin"), ID: rapid.Uint64().Draw(t, "id"), From: genState.Draw(t, "from"),
				To:       genMode.Draw(t, "to"),
				Deadline: genTime.Draw(t, "deadline"), EndsSessions: rapid.Bool().Draw(t, "ends sessions"),
			}}
		default:
			finished := genRecord.Draw(t, "finished")
			return status.Event{Finished: &finished}
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		want := genEvent.Draw(t, "event")
		member, body := EncodeEvent(want)
		got, err := DecodeEvent(member, travel(t, body...))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func TestARunningTransitionIsToldFromAFinishedOne(t *testing.T) {
	running := status.Transition{ID: 3, To: policy.Compute}
	finished := status.Record{ID: 2, To: policy.Desktop, Result: status.Success}

	got, err := DecodeOutcome(travelDict(t, EncodeTransition(&running)))
	require.NoError(t, err)
	require.Equal(t, Outcome{Running: &running}, got)

	got, err = DecodeOutcome(travelDict(t, EncodeRecord(&finished)))
	require.NoError(t, err)
	require.Equal(t, Outcome{Finished: &finished}, got)
}

func TestAnUnknownSignalIsNeverADenial(t *testing.T) {
	d := encodeSignals(observer.Facts{
		observer.VLLMActive:    {Truth: observer.False},
		observer.ComputeTarget: {Truth: observer.True},
		observer.VLLMHealthy:   {Reason: "no answer", Truth: observer.Unknown},
	})
	require.Equal(t, false, d["vllm_active"].Value())
	require.Equal(t, true, d["compute_target_active"].Value())
	require.NotContains(t, d, "vllm_healthy")
	require.Equal(t, false, d["vllm_healthy_known"].Value())
	require.Equal(t, "no answer", d["vllm_healthy_reason"].Value())
	// A signal without a fact is as unknown as one with an unknown fact.
	require.Equal(t, false, d["greeter_active_known"].Value())
}

// Any bytes may stand in a process's name or a server's answer.
func TestTextThatDBusCannotCarryIsMadeCarriable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		travelDict(
			t, EncodeRecord(&status.Record{Cause: raw, Guards: []guards.Verdict{{Reason: raw, Evidence: []string{raw}}}}),
		)
		travelDict(t, EncodeProperties(Properties{Version: raw, View: status.View{Observation: observer.Observation{
			Reasons: []observer.Reason{{Code: raw, Text: raw}}, Facts: observer.Facts{observer.Greeter: {Reason: raw}},
		}}}))
	})
}

// What comes over the wire is never trusted to be of the contract's types.
func TestDecodersRefuseOtherTypesAndNeverPanic(t *testing.T) {
	wrong := dbus.MakeVariant(struct{ A int32 }{7})
	full := map[string]Dict{
		"properties": EncodeProperties(Properties{View: status.View{Running: &status.Transition{ID: 1}}}),
		"record":     EncodeRecord(&status.Record{Started: time.UnixMicro(1), Finished: time.UnixMicro(1)}),
		"evidence":   EncodeEvidence(Evidence{Since: time.UnixMicro(1)}),
	}
	decode := map[string]func(Dict) error{
		"properties": func(d Dict) error { _, err := DecodeProperties(d); return err },
		"record":     func(d Dict) error { _, err := DecodeRecord(d); return err },
		"evidence":   func(d Dict) error { _, err := DecodeEvidence(d); return err },
	}
	for what, d := range full {
		for key := range d {
			if key == "Converged" {
				continue // computed, not read
			}
			broken := maps.Clone(d)
			broken[key] = wrong
			require.ErrorContains(t, decode[what](broken), "cannot decode", "%s with a wrong %s", what, key)
			delete(broken, key)
			require.NoError(t, decode[what](broken), "%s without %s", what, key)
		}
	}
}

func TestSignalsWithAnotherBodyAreErrorsAndUnknownOnesNothing(t *testing.T) {
	members := []string{SignalStateChanged, SignalTransitionStarted, SignalTransitionStep, SignalTransitionFinished}
	for _, member := range members {
		for _, body := range [][]any{
			nil, {}, {uint64(1)}, {"a", "b", "c", "d", "e"}, {uint64(1), "x", "y", 3}, {nil, nil, nil, nil, nil},
		} {
			_, err := DecodeEvent(member, body)
			require.ErrorContains(t, err, "cannot decode the signal "+member)
		}
	}
	event, err := DecodeEvent("SomethingNewer", []any{1})
	require.NoError(t, err)
	require.Equal(t, status.Event{}, event)
	member, _ := EncodeEvent(status.Event{})
	require.Empty(t, member)
}

func TestOnlyWhatDiffersIsAChange(t *testing.T) {
	before := Properties{
		View: status.View{Observation: observer.Observation{State: observer.Of(policy.Desktop), At: time.UnixMicro(1)}},
	}
	after := before
	after.View.Desired.Mode = policy.Compute
	after.View.Observation.At = time.UnixMicro(2)
	changed := Changed(EncodeProperties(before), EncodeProperties(after))
	require.Equal(
		t, []string{"DesiredMode"}, slices.Sorted(maps.Keys(changed)),
		"ObservedAt moves with every look and is not announced",
	)

	after = before
	after.View.Placement = map[string]policy.Place{"studio": policy.Remote}
	after.View.Topology.Present = []string{"0000:01:00.0"}
	changed = Changed(EncodeProperties(before), EncodeProperties(after))
	require.Equal(t, []string{"Placement", "Topology"}, slices.Sorted(maps.Keys(changed)))

	after = before
	after.View.Observation.Facts = observer.Facts{
		observer.Greeter: {Truth: observer.True, At: time.UnixMicro(3), Reason: "session 1"},
	}
	later := after
	later.View.Observation.Facts = observer.Facts{
		observer.Greeter: {Truth: observer.True, At: time.UnixMicro(4), Reason: "session 2"},
	}
	require.Contains(t, Changed(EncodeProperties(before), EncodeProperties(after)), "Signals")
	require.Empty(
		t, Changed(EncodeProperties(after), EncodeProperties(later)), "a fresh look at the same facts wakes nobody",
	)
}
