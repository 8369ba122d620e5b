package sinks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/atomicfile"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// files are the plain files under the runtime directory. Everybody may read them, so
// they tell of a process only what everybody may know. Only the daemon writes them. They
// are a stable interface: desired and current hold one word.
type files struct{ dir string }

// desiredFile is desired.json.
type desiredFile struct {
	status.Desired
	BootID string `json:"boot_id"`
}

func (f files) setDesired(d status.Desired, bootID string) error {
	return errors.Join(f.write("desired.json", desiredFile{d, bootID}), f.word("desired", string(d.Mode)))
}

func (f files) setCurrent(o observer.Observation) error {
	return errors.Join(f.write("current.json", status.CurrentOf(o, time.Time{})), f.word("current", string(o.State)))
}

func (f files) setPolicy(p policy.Policy) error {
	text, err := p.TOML()
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(f.dir, "policy.toml"), []byte(text), 0o644)
}

func (f files) setPlacement(places map[string]policy.Place, t observer.Topology) error {
	return errors.Join(f.write("capability-placement.json", places), f.write("hardware-topology.json", t))
}

func (f files) setLast(last *status.Record) error {
	if last == nil {
		return nil
	}
	r := last.For(observer.Nobody)
	return errors.Join(f.write("last-transition.json", r), f.write("last-guards.json", r.Guards))
}

func (f files) last() (*status.Record, error) {
	var r status.Record
	switch err := f.read("last-transition.json", &r); {
	case errors.Is(err, errNoFile):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &r, nil
}

var errNoFile = fs.ErrNotExist

func (f files) write(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", name, err)
	}
	return atomicfile.Write(filepath.Join(f.dir, name), append(data, '\n'), 0o644)
}

func (f files) word(name, word string) error {
	return atomicfile.Write(filepath.Join(f.dir, name), []byte(word+"\n"), 0o644)
}

func (f files) read(name string, v any) error {
	data, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("cannot read %s: %w", name, err)
	}
	return nil
}
