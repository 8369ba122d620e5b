// Package recording keeps snapshots of a host as they changed, and classifies
// them again: under another policy, to tune it without risk, or under the same
// one, to see that this version still says what it said.
//
// A recording is JSON lines: a header, then an entry for each change. It is not
// redacted. One that was cut off in the middle of a line is read up to there.
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

// Format and Version name what is written; a reader refuses any other.
const (
	Format  = "dubnium-recording"
	Version = 1
)

// Header is the first line.
type Header struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Started time.Time `json:"started"`
	// Policy is the one that the daemon had, as TOML.
	Policy string `json:"policy"`
}

// Entry is what was seen, and what it was called.
type Entry struct {
	At         time.Time           `json:"at"`
	State      observer.State      `json:"state"`
	Confidence observer.Confidence `json:"confidence"`
	Reasons    []string            `json:"reasons"` // codes
	Context    observer.Context    `json:"context"`
	Snapshot   observer.Snapshot   `json:"snapshot"`
}

// NewEntry is the entry of an observation.
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

// NewWriter begins a recording.
func NewWriter(w io.Writer, policyText string, started time.Time) (*Writer, error) {
	lines := json.NewEncoder(w)
	return &Writer{lines: lines}, lines.Encode(Header{Format, Version, started, policyText})
}

// Add writes an entry, unless it says the same as the last; wrote tells.
func (w *Writer) Add(e Entry) (wrote bool, err error) {
	same := fmt.Sprint(e.State, e.Confidence, e.Reasons, e.Context, e.Snapshot.Fingerprint())
	if same == w.last {
		return false, nil
	}
	w.last = same
	return true, w.lines.Encode(e)
}

// maxLine bounds a line: a host with thousands of units fits many times.
const maxLine = 16 << 20

// Read reads a recording; cut says that its last line was torn.
func Read(r io.Reader) (h Header, entries []Entry, cut bool, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	if !lines.Scan() {
		return h, nil, false, errors.Join(errors.New("cannot read the recording: it is empty"), lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Format != Format {
		return h, nil, false, errors.New("cannot read the recording: it is not one of ours")
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

// Difference is an entry that another policy, or another version, calls
// otherwise.
type Difference struct {
	At       time.Time         `json:"at"`
	Recorded Verdict           `json:"recorded"`
	Replayed Verdict           `json:"replayed"`
	Details  []observer.Reason `json:"details"` // the replayed reasons in words
}

// Verdict is what an entry is called.
type Verdict struct {
	State      observer.State      `json:"state"`
	Confidence observer.Confidence `json:"confidence"`
	Reasons    []string            `json:"reasons"`
}

// Replay classifies every entry under p, at the time at which it was classified
// then, and returns those that are called otherwise now.
func Replay(p policy.Policy, entries []Entry) []Difference {
	var all []Difference
	for _, e := range entries {
		o := observer.Classify(p, e.Snapshot, e.Context, e.At)
		was, is := Verdict{e.State, e.Confidence, e.Reasons}, Verdict{o.State, o.Confidence, codes(o.Reasons)}
		if was.State != is.State || was.Confidence != is.Confidence || !slices.Equal(was.Reasons, is.Reasons) {
			all = append(all, Difference{e.At, was, is, o.Reasons})
		}
	}
	return all
}
