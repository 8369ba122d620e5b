package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dubnium/dubnium/internal/atomicfile"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// SavedState is what was there before modes changed it: a file, so that it outlives
// the daemon, and of one boot, since what it is about does not outlive that. It is
// written before the host is changed and after the host is as it was; of anything
// that it names, the value that counts is its own. It is a source too: a plan
// follows from what it says.
type SavedState struct {
	path, boot string
	mu         sync.Mutex
	changed    chan struct{} // capacity 1
}

// OpenSavedState returns the memory of this boot in a directory.
func OpenSavedState(dir, bootID string) *SavedState {
	return &SavedState{path: filepath.Join(dir, "before.json"), boot: bootID, changed: make(chan struct{}, 1)}
}

// savedValues is what the file holds.
type savedValues struct {
	BootID   string                       `json:"boot_id"`
	Slices   map[string]policy.Properties `json:"slices"`
	Quiesced []string                     `json:"quiesced"`
}

func (m *SavedState) load() (savedValues, error) {
	n := savedValues{BootID: m.boot, Slices: map[string]policy.Properties{}, Quiesced: []string{}}
	data, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	var found savedValues
	if err == nil {
		err = json.Unmarshal(data, &found)
	}
	switch {
	case err != nil:
		return n, fmt.Errorf("cannot read %s, which says what was there before: %w", m.path, err)
	case found.BootID != m.boot:
		return n, nil
	}
	maps.Copy(n.Slices, found.Slices)
	n.Quiesced = append(n.Quiesced, found.Quiesced...)
	return n, nil
}

// read returns what is written down.
func (m *SavedState) read() (savedValues, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.load()
}

// change writes down what f makes of the note. When it fails, what f announces
// must not be done.
func (m *SavedState) change(f func(*savedValues)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.load()
	if err != nil {
		return err
	}
	f(&n)
	maps.DeleteFunc(n.Slices, func(_ string, p policy.Properties) bool { return len(p) == 0 })
	data, err := json.MarshalIndent(n, "", "  ")
	if err == nil {
		err = atomicfile.Write(m.path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot write down what was there before: %w", err)
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return nil
}

// set writes down a value of before, nil for none.
func (n *savedValues) set(slice, property string, value *string) {
	if value == nil {
		delete(n.Slices[slice], property)
		return
	}
	if n.Slices[slice] == nil {
		n.Slices[slice] = policy.Properties{}
	}
	n.Slices[slice][property] = *value
}

// of is the value of before that is written down, nil for none.
func (n savedValues) of(slice, property string) *string {
	if value, kept := n.Slices[slice][property]; kept {
		return &value
	}
	return nil
}

func (n *savedValues) quiesce(units ...string) {
	for _, unit := range units {
		if !slices.Contains(n.Quiesced, unit) {
			n.Quiesced = append(n.Quiesced, unit)
		}
	}
}

// Name names the source in facts and logs.
func (m *SavedState) Name() string { return observer.SourceSaved }

// Watch calls changed after each change of the note, until ctx ends.
func (m *SavedState) Watch(ctx context.Context, changed func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.changed:
			changed()
		}
	}
}

// Read reads the note.
func (m *SavedState) Read(context.Context) observer.Part {
	n, err := m.read()
	part := observer.SavedState{Reading: observer.Reading{At: time.Now()}, Slices: n.Slices, Quiesced: n.Quiesced}
	if err != nil {
		part.Reason = err.Error()
	}
	return part
}
