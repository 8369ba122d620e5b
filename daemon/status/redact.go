package status

import (
	"slices"
	"strings"

	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
)

// Keep notes which of the secrets the record's texts tell, so that whoever passes the
// record on knows what not to: long after, when the processes are gone.
func (r *Record) Keep(secrets []observer.Secret) {
	texts := r.texts()
	r.Private = slices.DeleteFunc(slices.Clone(secrets), func(s observer.Secret) bool {
		return !slices.ContainsFunc(texts, func(text *string) bool { return strings.Contains(*text, s.Text) })
	})
}

// texts are the record's words for what was seen.
func (r *Record) texts() []*string {
	all := []*string{&r.Cause}
	for i := range r.Steps {
		all = append(all, &r.Steps[i].Error, &r.Steps[i].UndoError)
		for j := range r.Steps[i].Notes {
			all = append(all, &r.Steps[i].Notes[j])
		}
	}
	for i := range r.Guards {
		v := &r.Guards[i]
		all = append(all, &v.Reason, &v.Remedy)
		for j := range v.Evidence {
			all = append(all, &v.Evidence[j])
		}
	}
	return all
}

// For returns the record as uid may read it: without the words for other people's
// processes. Nobody's copy is everybody's.
func (r Record) For(uid uint32) Record {
	hide := observer.Hide(r.Private, uid)
	r.Guards, r.Steps = guards.Redacted(r.Guards, hide), slices.Clone(r.Steps)
	for i := range r.Steps {
		step := &r.Steps[i]
		step.Error, step.UndoError, step.Notes = hide.Text(step.Error), hide.Text(step.UndoError), slices.Clone(step.Notes)
		for j := range step.Notes {
			step.Notes[j] = hide.Text(step.Notes[j])
		}
	}
	r.Cause = hide.Text(r.Cause)
	if uid != 0 {
		r.Private = nil
	}
	return r
}

// Public returns the view as everybody may read it.
func (v View) Public() View {
	snapshot, hide := observer.Redact(v.Snapshot, observer.Nobody)
	v.Snapshot, v.Observation = snapshot, hide.Observation(v.Observation)
	if v.Last != nil {
		last := v.Last.For(observer.Nobody)
		v.BlockedBy = guards.Redacted(v.BlockedBy, observer.Hide(v.Last.Private, observer.Nobody))
		v.Last = &last
	}
	return v
}

// Public returns the event as everybody may hear it.
func (e Event) Public() Event {
	switch {
	case e.StateChanged != nil:
		c := *e.StateChanged
		c.Reasons, c.Private = observer.Hide(c.Private, observer.Nobody).Reasons(c.Reasons), nil
		e.StateChanged = &c
	case e.Finished != nil:
		r := e.Finished.For(observer.Nobody)
		e.Finished = &r
	}
	return e
}
