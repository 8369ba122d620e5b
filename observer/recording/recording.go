// Package recording stores the snapshots of a host as they changed, and classifies them again: under
// another policy, to tune it without risk, or under the same one, to check that this version still
// classifies them in the same way.
//
// A recording is JSON lines: a header, then an entry for each change. It is not redacted. One that
// ends in the middle of a line is read up to that line.
package recording

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// Format and Version identify the format. Read rejects any other.
const (
	Format  = "dubnium-recording"
	Version = 1
)

// Header is the first line.
type Header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Started time.Time `json:"started"`
	// Policy is the policy that was in force, as TOML.
	Policy string `json:"policy"`
}

// Entry is a snapshot, and how it was classified.
type Entry struct {
	At         time.Time           `json:"at"`
	State      observer.State      `json:"state"`
	Confidence observer.Confidence `json:"confidence"`
	Reasons    []string            `json:"reasons"` // codes
	Context    observer.Context    `json:"context"`
	Snapshot   observer.Snapshot   `json:"snapshot"`
}

// NewEntry returns the entry of an observation.
func NewEntry(o observer.Observation, s observer.Snapshot) Entry {
	return Entry{
		At: o.At, State: o.State, Confidence: o.Confidence, Reasons: codes(o.Reasons), Context: o.Context, Snapshot: s,
	}
}

func codes(reasons []observer.Reason) []string {
	list := []string{}
	for _, r := range reasons {
		list = append(list, r.Code)
	}
	return list
}

// Writer writes a recording.
type Writer struct {
	lines *json.Encoder
	last  string
}

// NewWriter writes the header of a recording. policyText is the policy in force, as TOML.
func NewWriter(w io.Writer, policyText string, started time.Time) (*Writer, error) {
	lines := json.NewEncoder(w)
	return &Writer{lines: lines}, lines.Encode(Header{Format, Version, started, policyText})
}

// Add writes an entry, unless it is equivalent to the last one. wrote reports whether it did.
func (w *Writer) Add(e Entry) (wrote bool, err error) {
	same := fmt.Sprint(e.State, e.Confidence, e.Reasons, e.Context, e.Snapshot.Fingerprint())
	if same == w.last {
		return false, nil
	}
	w.last = same
	return true, w.lines.Encode(e)
}

// maxLine is the longest line in bytes. A host with thousands of units needs much less.
const maxLine = 16 << 20

// Read reads a recording. cut is true if its last line is incomplete.
func Read(r io.Reader) (h Header, entries []Entry, cut bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return h, nil, false, errors.Join(errors.New("cannot read the recording: it is empty"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Format != Format {
		return h, nil, false, errors.New("cannot read the recording: it is not a recording of Dubnium")
	}
	if h.Version != Version {
		return h, nil, false, fmt.Errorf(
			"cannot read the recording: it has version %d, and this program knows %d", h.Version, Version,
		)
	}
	for number := 2; lines.Scan(); number++ {
		var e Entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			if lines.Scan() {
				return h, nil, false, fmt.Errorf("cannot read the recording: line %d: %w", number, err)
			}
			return h, entries, true, lines.Err()
		}
		entries = append(entries, e)
	}
	if err := lines.Err(); err != nil {
		return h, nil, false, fmt.Errorf("cannot read the recording: %w", err)
	}
	return h, entries, false, nil
}

// Difference is an entry that is classified differently under another policy or version.
type Difference struct {
	At       time.Time         `json:"at"`
	Recorded Verdict           `json:"recorded"`
	Replayed Verdict           `json:"replayed"`
	Details  []observer.Reason `json:"details"` // the reasons of Replayed
}

// Verdict is a classification of an entry.
type Verdict struct {
	State      observer.State      `json:"state"`
	Confidence observer.Confidence `json:"confidence"`
	Reasons    []string            `json:"reasons"`
}

// Replay classifies every entry under p, as of its own time, and returns those that differ from the
// recording.
func Replay(p policy.Policy, entries []Entry) []Difference {
	var all []Difference
	for _, e := range entries {
		o := observer.Classify(p, e.Snapshot, e.Context, e.At)
		was, now := Verdict{e.State, e.Confidence, e.Reasons}, Verdict{o.State, o.Confidence, codes(o.Reasons)}
		if was.State != now.State || was.Confidence != now.Confidence || !slices.Equal(was.Reasons, now.Reasons) {
			all = append(all, Difference{e.At, was, now, o.Reasons})
		}
	}
	return all
}
