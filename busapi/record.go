package busapi

import (
	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// keyResult tells a finished transition from a running one.
const keyResult = "result"

// KeyMore of the last record of History says that the reply ended at its bound, and that
// there may be older records.
const KeyMore = "more"

// EncodeTransition is the property Transition; nil is empty.
func EncodeTransition(t *status.Transition) Dict {
	if t == nil {
		return Dict{}
	}
	d := Dict{
		"id":         dbus.MakeVariant(t.ID),
		"from":       textVariant(t.From),
		"to":         textVariant(t.To),
		"origin":     textVariant(t.Origin),
		"by":         textVariant(t.By),
		"phase":      textVariant(t.Phase),
		"step":       textVariant(t.Step),
		"step_index": dbus.MakeVariant(uint32(t.StepIndex)),
		"step_count": dbus.MakeVariant(uint32(t.StepCount)),
	}
	if t.Progress != "" {
		d["progress"] = textVariant(t.Progress)
	}
	d["cancellable"] = dbus.MakeVariant(t.Cancellable)
	putTime(d, "started", t.Started)
	putTime(d, "deadline", t.Deadline)
	return d
}

// DecodeTransition reads what EncodeTransition wrote.
func DecodeTransition(d Dict) (*status.Transition, error) {
	if len(d) == 0 {
		return nil, nil
	}
	r := &reader{dict: d}
	t := status.Transition{
		ID:        get[uint64](r, "id"),
		From:      word[observer.State](r, "from"),
		To:        word[policy.Mode](r, "to"),
		Origin:    word[status.Origin](r, "origin"),
		By:        get[string](r, "by"),
		Phase:     word[status.Phase](r, "phase"),
		Step:      get[string](r, "step"),
		StepIndex: int(get[uint32](r, "step_index")),
		StepCount: int(get[uint32](r, "step_count")),
		Progress:  get[string](r, "progress"),
		Started:   moment(r, "started"),

		Cancellable: get[bool](r, "cancellable"),
		Deadline:    moment(r, "deadline"),
	}
	return &t, r.finish("a transition")
}

// EncodeRecord is the property LastTransition and an entry of History; nil is
// empty.
func EncodeRecord(r *status.Record) Dict {
	if r == nil {
		return Dict{}
	}
	d := Dict{
		"id":      dbus.MakeVariant(r.ID),
		"from":    textVariant(r.From),
		"to":      textVariant(r.To),
		"final":   textVariant(r.Final),
		keyResult: textVariant(r.Result),
		"cause":   textVariant(r.Cause),
		"origin":  textVariant(r.Origin),
		"by":      textVariant(r.By),
		"why":     textVariant(r.Why),
		"guards":  dbus.MakeVariant(dicts(r.Guards, encodeVerdict)),
		"forced":  dbus.MakeVariant(words(r.Forced)),
		"steps":   dbus.MakeVariant(dicts(r.Steps, encodeStep)),
	}
	if r.UID != nil {
		d["uid"] = dbus.MakeVariant(*r.UID)
	}
	d["authorization"] = textVariant(r.Authorization)
	putTime(d, "started", r.Started)
	putTime(d, "judged", r.Judged)
	putTime(d, "finished", r.Finished)
	return d
}

// DecodeRecord reads what EncodeRecord wrote.
func DecodeRecord(d Dict) (*status.Record, error) {
	if len(d) == 0 {
		return nil, nil
	}
	r := &reader{dict: d}
	record := status.Record{
		ID:            get[uint64](r, "id"),
		From:          word[observer.State](r, "from"),
		To:            word[policy.Mode](r, "to"),
		Final:         word[observer.State](r, "final"),
		Result:        word[status.Result](r, keyResult),
		Cause:         get[string](r, "cause"),
		Origin:        word[status.Origin](r, "origin"),
		By:            get[string](r, "by"),
		Why:           get[string](r, "why"),
		Authorization: get[string](r, "authorization"),
		Started:       moment(r, "started"),
		Judged:        moment(r, "judged"),
		Finished:      moment(r, "finished"),
		Guards:        list(r, "guards", decodeVerdict),
		Forced:        readWords[policy.GuardID](r, "forced"),
		Steps:         list(r, "steps", decodeStep),
	}
	if _, known := d["uid"]; known {
		record.UID = new(uint32)
		*record.UID = get[uint32](r, "uid")
	}
	return &record, r.finish("the record of a transition")
}

// EncodeHistory is the reply of History.
func EncodeHistory(records []status.Record) []Dict {
	return dicts(records, func(r status.Record) Dict { return EncodeRecord(&r) })
}

// DecodeHistory reads what EncodeHistory wrote.
func DecodeHistory(records []Dict) ([]status.Record, error) {
	return decodeAll(records, func(d Dict) (status.Record, error) {
		r, err := DecodeRecord(d)
		if err != nil || r == nil {
			return status.Record{}, err
		}
		return *r, nil
	})
}

// Outcome is the reply of GetTransition: exactly one field is set.
type Outcome struct {
	Running  *status.Transition
	Finished *status.Record
}

// DecodeOutcome tells a running transition from a finished one.
func DecodeOutcome(d Dict) (Outcome, error) {
	if _, finished := d[keyResult]; finished {
		r, err := DecodeRecord(d)
		return Outcome{Finished: r}, err
	}
	t, err := DecodeTransition(d)
	return Outcome{Running: t}, err
}

// EncodeVerdicts is the reply of RunGuards.
func EncodeVerdicts(verdicts []guards.Verdict) []Dict { return dicts(verdicts, encodeVerdict) }

// DecodeVerdicts reads what EncodeVerdicts wrote.
func DecodeVerdicts(list []Dict) ([]guards.Verdict, error) {
	var verdicts []guards.Verdict
	for _, d := range list {
		v, err := decodeVerdict(d)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, v)
	}
	return verdicts, nil
}

func encodeVerdict(v guards.Verdict) Dict {
	return Dict{
		"guard":    textVariant(v.Guard),
		"ok":       dbus.MakeVariant(v.OK),
		"code":     dbus.MakeVariant(int32(v.Code)),
		"hard":     dbus.MakeVariant(v.Hard),
		"reason":   textVariant(v.Reason),
		"remedy":   textVariant(v.Remedy),
		"evidence": dbus.MakeVariant(texts(v.Evidence)),
	}
}

func decodeVerdict(d Dict) (guards.Verdict, error) {
	r := &reader{dict: d}
	v := guards.Verdict{
		Guard:  word[policy.GuardID](r, "guard"),
		OK:     get[bool](r, "ok"),
		Code:   policy.Code(get[int32](r, "code")),
		Hard:   get[bool](r, "hard"),
		Reason: get[string](r, "reason"),
		Remedy: get[string](r, "remedy"),
	}
	if evidence := get[[]string](r, "evidence"); len(evidence) > 0 {
		v.Evidence = evidence
	}
	return v, r.finish("a verdict")
}

func encodeStep(s status.Step) Dict {
	d := Dict{"id": textVariant(s.ID), "status": textVariant(s.Status), "error": textVariant(s.Error)}
	putTime(d, "started", s.Started)
	putTime(d, "finished", s.Finished)
	d["undo_error"] = textVariant(s.UndoError)
	putTime(d, "undo_started", s.UndoStarted)
	putTime(d, "undo_finished", s.UndoFinished)
	if len(s.Notes) > 0 {
		d["notes"] = dbus.MakeVariant(texts(s.Notes))
	}
	if len(s.Residual) > 0 {
		d["residual"] = dbus.MakeVariant(dicts(s.Residual, func(m observer.GPUMemory) Dict { return encodeStruct(m) }))
	}
	return d
}

func decodeStep(d Dict) (status.Step, error) {
	r := &reader{dict: d}
	s := status.Step{
		ID:       get[string](r, "id"),
		Status:   word[status.StepStatus](r, "status"),
		Error:    get[string](r, "error"),
		Started:  moment(r, "started"),
		Finished: moment(r, "finished"),

		UndoError:    get[string](r, "undo_error"),
		UndoStarted:  moment(r, "undo_started"),
		UndoFinished: moment(r, "undo_finished"),
	}
	if notes := get[[]string](r, "notes"); len(notes) > 0 {
		s.Notes = notes
	}
	s.Residual = list(r, "residual", func(d Dict) (m observer.GPUMemory, err error) {
		err = decodeStruct(d, &m)
		return m, err
	})
	return s, r.finish("a step")
}
