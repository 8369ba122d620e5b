package busapi

import (
	"fmt"
	"reflect"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// The arguments of the signals that end with a dictionary, in order. Those of
// TransitionStep and TransitionProgress are the fields of their events.
type (
	stateChangedArgs struct {
		Old, New observer.State
		Why      struct {
			Reasons []observer.Reason `json:"reasons"`
		}
	}
	startedArgs struct {
		ID      uint64
		From    observer.State
		To      policy.Mode
		Details status.Transition
	}
	prepareArgs struct {
		Begin   bool
		ID      uint64
		From    observer.State
		To      policy.Mode
		Details struct {
			Deadline     time.Time `json:"deadline"`
			EndsSessions bool      `json:"ends_sessions"`
		}
	}
	finishedArgs struct {
		ID     uint64
		Result status.Result
		Record status.Record
	}
)

// EncodeEvent returns the member and the body of the signal for e. An empty event has
// no member.
func EncodeEvent(e status.Event) (member string, body []any) {
	switch {
	case e.StateChanged != nil:
		args := stateChangedArgs{Old: e.StateChanged.Old, New: e.StateChanged.New}
		args.Why.Reasons = e.StateChanged.Reasons
		return SignalStateChanged, encodeArgs(args)
	case e.Started != nil:
		return SignalTransitionStarted, encodeArgs(startedArgs{e.Started.ID, e.Started.From, e.Started.To, *e.Started})
	case e.Step != nil:
		return SignalTransitionStep, encodeArgs(*e.Step)
	case e.Progress != nil:
		return SignalTransitionProgress, encodeArgs(*e.Progress)
	case e.Prepare != nil:
		p := e.Prepare
		args := prepareArgs{Begin: p.Begin, ID: p.ID, From: p.From, To: p.To}
		args.Details.Deadline, args.Details.EndsSessions = p.Deadline, p.EndsSessions
		return SignalPrepare, encodeArgs(args)
	case e.Finished != nil:
		return SignalTransitionFinished, encodeArgs(finishedArgs{e.Finished.ID, e.Finished.Result, *e.Finished})
	}
	return "", nil
}

// DecodeEvent decodes a signal of the interface. A member that this version does not
// know is an empty event; a body that does not follow the contract is an error. The
// caller must have checked the sender.
func DecodeEvent(member string, body []any) (status.Event, error) {
	decode, known := eventDecoders[member]
	if !known {
		return status.Event{}, nil
	}
	e, err := decode(body)
	if err != nil {
		return status.Event{}, fmt.Errorf("cannot decode the signal %s: %w", member, err)
	}
	return e, nil
}

var eventDecoders = map[string]func([]any) (status.Event, error){
	SignalStateChanged: decodeArgs(func(a stateChangedArgs) status.Event {
		return status.Event{StateChanged: &status.StateChanged{Old: a.Old, New: a.New, Reasons: a.Why.Reasons}}
	}),
	SignalTransitionStarted: decodeArgs(func(a startedArgs) status.Event {
		a.Details.ID, a.Details.From, a.Details.To = a.ID, a.From, a.To
		return status.Event{Started: &a.Details}
	}),
	SignalTransitionStep: decodeArgs(func(s status.StepEvent) status.Event {
		return status.Event{Step: &s}
	}),
	SignalTransitionProgress: decodeArgs(func(p status.StepProgress) status.Event {
		return status.Event{Progress: &p}
	}),
	SignalPrepare: decodeArgs(func(a prepareArgs) status.Event {
		return status.Event{Prepare: &status.Prepare{
			Begin: a.Begin, ID: a.ID, From: a.From, To: a.To, Deadline: a.Details.Deadline, EndsSessions: a.Details.EndsSessions,
		}}
	}),
	SignalTransitionFinished: decodeArgs(func(a finishedArgs) status.Event {
		a.Record.ID, a.Record.Result = a.ID, a.Result
		return status.Event{Finished: &a.Record}
	}),
}

// encodeArgs encodes a struct as the body of a signal: an argument for each field.
func encodeArgs(args any) []any {
	v := reflect.ValueOf(args)
	body := make([]any, v.NumField())
	for i := range body {
		body[i], _ = encodeValue(v.Field(i), formOf(v.Type().Field(i)).signature)
	}
	return body
}

// decodeArgs decodes what encodeArgs encoded. A missing argument and one of another
// type are errors, never a panic, since anybody can send a signal. Arguments after the
// last are ignored.
func decodeArgs[T any](event func(T) status.Event) func(body []any) (status.Event, error) {
	return func(body []any) (status.Event, error) {
		var args T
		v := reflect.ValueOf(&args).Elem()
		if len(body) < v.NumField() {
			return status.Event{}, fmt.Errorf("it has only %d arguments", len(body))
		}
		for i := range v.NumField() {
			f := formOf(v.Type().Field(i))
			if err := decodeValue(body[i], v.Field(i), f.signature); err != nil {
				return status.Event{}, within(f.key, err)
			}
		}
		return event(args), nil
	}
}
