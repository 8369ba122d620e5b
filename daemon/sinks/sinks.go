// Package sinks copies the view to where it is read: files, consoles. A sink remembers
// what it wrote last. What it could not write it writes again with the next view.
package sinks

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/intent"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// sink is one copy of a part of the view.
type sink interface {
	// put brings the copy up to date.
	put(status.View)
}

// Sinks are all copies, in the order in which they are written.
type Sinks struct {
	files   files
	intent  intentFile
	last    *follower[*status.Record]
	console *console
	ordered []sink
	log     *zap.Logger
}

// New returns the sinks of a policy's directories. now is the boot clock.
func New(paths policy.Paths, bootID string, now func() time.Duration, log *zap.Logger) *Sinks {
	f := files{paths.Runtime}
	s := &Sinks{files: f, intent: intentFile{dir: f}, console: &console{dir: paths.Issue, now: now, log: log}, log: log}
	s.last = &follower[*status.Record]{
		what: "the last transition", log: log,
		part:  func(v status.View) *status.Record { return v.Last },
		same:  func(a, b *status.Record) bool { return a == b },
		write: func(v status.View) error { return f.setLast(v.Last) },
	}
	s.ordered = []sink{
		&follower[status.Desired]{
			what: "the desired mode", log: log,
			part:  func(v status.View) status.Desired { return v.Desired },
			same:  func(a, b status.Desired) bool { return a == b },
			write: func(v status.View) error { return f.setDesired(v.Desired, bootID) },
		},
		&follower[observer.Observation]{
			what: "the observed state", log: log,
			part:  func(v status.View) observer.Observation { return v.Observation },
			same:  observer.Observation.Same,
			write: func(v status.View) error { return f.setCurrent(v.Public().Observation) },
		},
		&follower[placement]{
			what: "the placement and the topology", log: log,
			part:  func(v status.View) placement { return placement{v.Placement, v.Topology} },
			same:  func(a, b placement) bool { return reflect.DeepEqual(a, b) },
			write: func(v status.View) error { return f.setPlacement(v.Placement, v.Topology) },
		},
		s.last,
		s.console,
	}
	return s
}

type placement struct {
	places   map[string]policy.Place
	topology observer.Topology
}

// Put brings all copies up to date. document is the intent. done reports whether the end
// of the last transition and what it means for the intent are on disk.
func (s *Sinks) Put(v status.View, document intent.Document) (done bool) {
	err := s.SaveIntent(document)
	if err != nil {
		s.log.Error("cannot write the intent", zap.Error(err))
	}
	for _, sink := range s.ordered {
		sink.put(v)
	}
	return err == nil && s.last.written
}

// Warning says why the consoles do not show how to leave compute, empty when they do.
func (s *Sinks) Warning() string { return s.console.warning() }

// RetryAt is when the consoles are to be written again, by the boot clock; 0 is never.
func (s *Sinks) RetryAt() time.Duration { return s.console.retry() }

// Intent returns the intent of this boot. ok is false when there is none.
func (s *Sinks) Intent(bootID string) (d intent.Document, ok bool, err error) {
	return s.intent.load(bootID)
}

// SaveIntent writes the intent, unless the file holds it.
func (s *Sinks) SaveIntent(d intent.Document) error { return s.intent.save(d) }

// Last returns the last finished transition of this boot, nil for none, as everybody may
// read it. The history has it whole.
func (s *Sinks) Last() (*status.Record, error) { return s.files.last() }

// SetPolicy writes the policy that is in force, for the probe that reads where vLLM
// listens. The file that it was loaded from may have changed since.
func (s *Sinks) SetPolicy(p policy.Policy) error { return s.files.setPolicy(p) }

// follower writes a part of the view when it has changed.
type follower[T any] struct {
	what    string
	part    func(status.View) T
	same    func(a, b T) bool
	write   func(status.View) error
	log     *zap.Logger
	last    T
	written bool
	failed  bool
}

func (f *follower[T]) put(v status.View) {
	part := f.part(v)
	if f.written && f.same(part, f.last) {
		return
	}
	err := f.write(v)
	f.last, f.written = part, err == nil
	switch {
	case err != nil && !f.failed:
		f.log.Error("cannot write "+f.what, zap.Error(err))
	case err == nil && f.failed:
		f.log.Info(f.what + " is written again")
	}
	f.failed = err != nil
}

// intentFile is intent.json.
type intentFile struct {
	dir     files
	saved   intent.Document
	written bool // the file holds saved
}

const intentName = "intent.json"

func (f *intentFile) load(bootID string) (d intent.Document, ok bool, err error) {
	switch err := f.dir.read(intentName, &d); {
	case errors.Is(err, errNoFile) || err == nil && d.BootID != bootID:
		return intent.Document{}, false, nil
	case err != nil:
		return intent.Document{}, false, err
	}
	return d, true, nil
}

func (f *intentFile) save(d intent.Document) error {
	if f.written && reflect.DeepEqual(d, f.saved) {
		return nil
	}
	// When this fails, the file holds either document.
	f.written = false
	if err := f.dir.write(intentName, d); err != nil {
		return fmt.Errorf("cannot record what was requested: %w", err)
	}
	f.saved, f.written = d, true
	return nil
}
