package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/dubnium/dubnium/daemon/status"
)

// history is events.jsonl: one line for each transition that ended, oldest
// first. It outlives the daemon and the boot.
type history struct {
	path string
	mu   sync.Mutex
}

// openHistory returns the history in stateDir. repaired is the number of bytes of
// a torn last line, which a crash in the middle of an append leaves, that were
// cut off.
func openHistory(stateDir string) (h *history, repaired int, err error) {
	h = &history{path: filepath.Join(stateDir, "events.jsonl")}
	data, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the history: %w", err)
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	if whole == len(data) {
		return h, 0, nil
	}
	if err := os.Truncate(h.path, int64(whole)); err != nil {
		return nil, 0, fmt.Errorf("cannot cut the torn end off the history: %w", err)
	}
	return h, len(data) - whole, nil
}

// append adds a record; it is on disk when append returns nil.
func (h *history) append(r status.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot encode transition %d: %w", r.ID, err)
	}
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("cannot append to the history: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot append to the history: %w", err)
	}
	return nil
}

// records returns the newest limit records, oldest first. A line that is no
// record is passed over: it may be of a newer version.
func (h *history) records(limit int) ([]status.Record, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	data, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the history: %w", err)
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	var records []status.Record
	for _, line := range lines[max(0, len(lines)-limit):] {
		var r status.Record
		if json.Unmarshal(line, &r) == nil && r.ID != 0 {
			records = append(records, r)
		}
	}
	return records, nil
}

// record returns the newest record of that id.
func (h *history) record(id uint64) (status.Record, error) {
	records, err := h.records(historyDepth)
	if err != nil {
		return status.Record{}, err
	}
	for i := len(records) - 1; i >= 0; i-- {
		if records[i].ID == id {
			return records[i], nil
		}
	}
	return status.Record{}, fmt.Errorf("transition %d: %w", id, status.ErrNoSuchTransition)
}

// historyDepth bounds how far back one transition is looked for.
const historyDepth = 10_000
