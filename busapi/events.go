package busapi

import (
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// EncodeEvent returns the signal that announces e: its member and its body. An
// event that says nothing has no member.
func EncodeEvent(e status.Event) (member string, body []any) {
	switch {
	case e.StateChanged != nil:
		c := e.StateChanged
		why := Dict{"reasons": dbus.MakeVariant(dicts(c.Reasons, encodeReason))}
		return SignalStateChanged, []any{text(string(c.Old)), text(string(c.New)), why}
	case e.Started != nil:
		t := e.Started
		return SignalTransitionStarted, []any{t.ID, text(string(t.From)), text(string(t.To)), EncodeTransition(t)}
	case e.Step != nil:
		s := e.Step
		return SignalTransitionStep, []any{s.ID, uint32(s.Index), uint32(s.Count), text(s.Step), text(string(s.Status))}
	case e.Progress != nil:
		p := e.Progress
		return SignalTransitionProgress, []any{p.ID, uint32(p.Index), uint32(p.Count), text(p.Step), text(p.Text)}
	case e.Prepare != nil:
		p := e.Prepare
		details := Dict{"ends_sessions": dbus.MakeVariant(p.EndsSessions)}
		putTime(details, "deadline", p.Deadline)
		return SignalPrepare, []any{p.Begin, p.ID, text(string(p.From)), text(string(p.To)), details}
	case e.Finished != nil:
		r := e.Finished
		return SignalTransitionFinished, []any{r.ID, text(string(r.Result)), EncodeRecord(r)}
	}
	return "", nil
}

// DecodeEvent reads a signal of the interface. A member that this version does
// not know is an empty event; a body that is not the contract's is an error. The
// caller has checked who sent it.
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
	SignalStateChanged:       decodeStateChanged,
	SignalTransitionStarted:  decodeStarted,
	SignalTransitionStep:     decodeStepEvent,
	SignalTransitionProgress: decodeProgress,
	SignalPrepare:            decodePrepare,
	SignalTransitionFinished: decodeFinished,
}

func decodeStateChanged(body []any) (status.Event, error) {
	a := args{body: body}
	c := status.StateChanged{Old: observer.State(arg[string](&a)), New: observer.State(arg[string](&a))}
	r := &reader{dict: arg[Dict](&a)}
	c.Reasons = list(r, "reasons", decodeReason)
	if err := a.finish(); err != nil {
		return status.Event{}, err
	}
	return status.Event{StateChanged: &c}, r.err
}

func decodeStarted(body []any) (status.Event, error) {
	a := args{body: body}
	id, from, to := arg[uint64](&a), arg[string](&a), arg[string](&a)
	details := arg[Dict](&a)
	if err := a.finish(); err != nil {
		return status.Event{}, err
	}
	t, err := DecodeTransition(details)
	if t == nil {
		t = &status.Transition{}
	}
	t.ID, t.From, t.To = id, observer.State(from), policy.Mode(to)
	return status.Event{Started: t}, err
}

func decodeStepEvent(body []any) (status.Event, error) {
	a := args{body: body}
	s := status.StepEvent{
		ID:     arg[uint64](&a),
		Index:  int(arg[uint32](&a)),
		Count:  int(arg[uint32](&a)),
		Step:   arg[string](&a),
		Status: status.StepStatus(arg[string](&a)),
	}
	return status.Event{Step: &s}, a.finish()
}

func decodeProgress(body []any) (status.Event, error) {
	a := args{body: body}
	p := status.StepProgress{
		ID: arg[uint64](&a), Index: int(arg[uint32](&a)), Count: int(arg[uint32](&a)), Step: arg[string](&a), Text: arg[string](&a),
	}
	return status.Event{Progress: &p}, a.finish()
}

func decodePrepare(body []any) (status.Event, error) {
	a := args{body: body}
	p := status.Prepare{
		Begin: arg[bool](&a), ID: arg[uint64](&a), From: observer.State(arg[string](&a)), To: policy.Mode(arg[string](&a)),
	}
	r := &reader{dict: arg[Dict](&a)}
	p.Deadline, p.EndsSessions = moment(r, "deadline"), get[bool](r, "ends_sessions")
	if err := a.finish(); err != nil {
		return status.Event{}, err
	}
	return status.Event{Prepare: &p}, r.err
}

func decodeFinished(body []any) (status.Event, error) {
	a := args{body: body}
	id, result := arg[uint64](&a), arg[string](&a)
	details := arg[Dict](&a)
	if err := a.finish(); err != nil {
		return status.Event{}, err
	}
	r, err := DecodeRecord(details)
	if r == nil {
		r = &status.Record{}
	}
	r.ID, r.Result = id, status.Result(result)
	return status.Event{Finished: r}, err
}

// args takes a signal's arguments one by one. Bodies come from the wire, so a
// missing one and one of another type are errors, never a panic. Arguments after
// the last are none of our business: a signature never changes.
type args struct {
	body []any
	next int
	err  error
}

func arg[T any](a *args) T {
	var zero T
	at := a.next
	a.next++
	if at >= len(a.body) {
		a.err = fmt.Errorf("it has %d arguments only", len(a.body))
		return zero
	}
	value, ok := a.body[at].(T)
	if !ok {
		a.err = fmt.Errorf("its argument %d is a %T", at, a.body[at])
	}
	return value
}

func (a *args) finish() error { return a.err }
