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

// SavedState persists, for this boot, the values that modes have overridden. An entry is
// written before the host is changed and removed after the value is restored; it takes
// precedence over the current value when a mode is left. SavedState is also a source,
// since plans depend on it.
type SavedState struct {
	path, boot string
	mu         sync.Mutex
	changed    chan struct{} // capacity 1
}

// OpenSavedState returns the saved state of this boot, which is a file in dir.
func OpenSavedState(dir, bootID string) *SavedState {
	return &SavedState{path: filepath.Join(dir, "before.json"), boot: bootID, changed: make(chan struct{}, 1)}
}

// savedValues is the content of the file.
type savedValues struct {
	BootID   string                       `json:"boot_id"`
	Slices   map[string]policy.Properties `json:"slices"`
	Quiesced []string                     `json:"quiesced"`
}

func (s *SavedState) load() (savedValues, error) {
	v := savedValues{BootID: s.boot, Slices: map[string]policy.Properties{}, Quiesced: []string{}}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	var found savedValues
	if err == nil {
		err = json.Unmarshal(data, &found)
	}
	switch {
	case err != nil:
		return v, fmt.Errorf("cannot read the saved state %s: %w", s.path, err)
	case found.BootID != s.boot:
		return v, nil
	}
	maps.Copy(v.Slices, found.Slices)
	v.Quiesced = append(v.Quiesced, found.Quiesced...)
	return v, nil
}

// read returns the saved values.
func (s *SavedState) read() (savedValues, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load()
}

// change applies f to the saved values and writes them. If it fails, the caller must not
// make the change that f prepares.
func (s *SavedState) change(f func(*savedValues)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.load()
	if err != nil {
		return err
	}
	f(&v)
	maps.DeleteFunc(v.Slices, func(_ string, p policy.Properties) bool { return len(p) == 0 })
	data, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = atomicfile.Write(s.path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("cannot write the saved state: %w", err)
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

// set sets the saved value of a property; nil removes it.
func (v *savedValues) set(slice, property string, value *string) {
	if value == nil {
		delete(v.Slices[slice], property)
		return
	}
	if v.Slices[slice] == nil {
		v.Slices[slice] = policy.Properties{}
	}
	v.Slices[slice][property] = *value
}

// get returns the saved value of a property, nil for none.
func (v savedValues) get(slice, property string) *string {
	if value, ok := v.Slices[slice][property]; ok {
		return &value
	}
	return nil
}

func (v *savedValues) quiesce(units ...string) {
	for _, unit := range units {
		if !slices.Contains(v.Quiesced, unit) {
			v.Quiesced = append(v.Quiesced, unit)
		}
	}
}

// Name is the name of the source in facts and logs.
func (s *SavedState) Name() string { return observer.SourceSaved }

// Watch calls changed after each change of the saved values, until ctx ends.
func (s *SavedState) Watch(ctx context.Context, changed func()) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
			changed()
		}
	}
}

// Read reads the saved values.
func (s *SavedState) Read(context.Context) observer.Part {
	v, err := s.read()
	part := observer.SavedState{Reading: observer.Reading{At: time.Now()}, Slices: v.Slices, Quiesced: v.Quiesced}
	if err != nil {
		part.Reason = err.Error()
	}
	return part
}
