package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/atomicfile"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// journalFormat is raised when an older daemon could misread what a newer one
// wrote. A daemon that meets another format refuses to act on it.
const journalFormat = 1

// Entry is the transition that runs: what is needed after a crash to tell what may have
// been done, and to undo it.
type Entry struct {
	Format int    `json:"format"`
	BootID string `json:"boot_id"`
	// Record's steps say how far each step got; its result is empty until the end.
	Record status.Record `json:"record"`
	// OriginMode is the mode the host was in, which undo leads back to; empty when it
	// was in none.
	OriginMode policy.Mode  `json:"home,omitempty"`
	Steps      []plans.Step `json:"steps"`
	// Before holds, for each step that was prepared, what it found.
	Before []json.RawMessage `json:"before"`
}

// Journal is the file that is written before the host is touched.
type Journal struct{ path string }

// NewJournal returns the journal under the state directory.
func NewJournal(stateDir string) Journal {
	return Journal{filepath.Join(stateDir, "transition.json")}
}

// Load returns the entry of a transition that did not end, nil for none. Errors:
// the file cannot be read, is no journal, or is of a format or names step kinds
// that this version does not know; the caller must not act then.
func (j Journal) Load() (*Entry, error) {
	data, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the journal: %w", err)
	}
	var entry Entry
	if err := json.Unmarshal(data, &entry); err != nil {
		return nil, fmt.Errorf("cannot read the journal %s: %w", j.path, err)
	}
	return &entry, entry.check(j.path)
}

func (e *Entry) check(path string) error {
	if e.Format != journalFormat {
		return fmt.Errorf(
			"cannot use the journal %s: its format is %d, this version writes %d", path, e.Format, journalFormat,
		)
	}
	if len(e.Record.Steps) != len(e.Steps) || len(e.Before) != len(e.Steps) {
		return fmt.Errorf("cannot use the journal %s: it has %d steps with %d states and %d notes",
			path, len(e.Steps), len(e.Record.Steps), len(e.Before))
	}
	for i, s := range e.Steps {
		if string(e.Before[i]) == "null" {
			e.Before[i] = nil
		}
		if !slices.Contains(plans.Kinds(), s.Kind) {
			return fmt.Errorf("cannot use the journal %s: step %s is of the unknown kind %q", path, s.ID, s.Kind)
		}
	}
	return nil
}

// Save writes the entry to disk. When it fails, the step that it announces must not be
// applied.
func (j Journal) Save(entry *Entry) error {
	data, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("cannot encode the journal: %w", err)
	}
	return atomicfile.Write(j.path, append(data, '\n'), 0o600)
}

// Clear removes the entry.
func (j Journal) Clear() error { return atomicfile.Remove(j.path) }
