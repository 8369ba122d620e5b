package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/atomicfile"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// files are the plain files under the runtime directory. Scripts read them, and
// anybody may, so they tell of a process only what everybody may know; only the
// daemon writes them. They are a stable interface: desired and current hold one word.
type files struct{ dir string }

// savedDesired is desired.json. The boot id makes a wish die with its boot even
// where the directory outlives it.
type savedDesired struct {
	status.Desired
	BootID string `json:"boot_id"`
}

// desired returns what was asked in this boot, false for nothing.
func (f files) desired(bootID string) (status.Desired, bool, error) {
	var saved savedDesired
	err := f.read("desired.json", &saved)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && saved.BootID != bootID) {
		return status.Desired{}, false, nil
	}
	return saved.Desired, err == nil, err
}

// setDesired writes last what the next start believes.
func (f files) setDesired(d status.Desired, bootID string) error {
	if err := f.setDesiredWord(d); err != nil {
		return err
	}
	return f.write("desired.json", savedDesired{d, bootID})
}

func (f files) setDesiredWord(d status.Desired) error { return f.word("desired", string(d.Mode)) }

func (f files) setCurrent(o observer.Observation) error {
	return errors.Join(f.write("current.json", status.CurrentOf(o, time.Time{})), f.word("current", string(o.State)))
}

// setPolicy writes the policy that is in force, for the probe that reads where
// vLLM listens: the file that it came from may say something else by now.
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

func (f files) setLast(r status.Record) error {
	r = r.For(observer.Nobody)
	return errors.Join(f.write("last-transition.json", r), f.write("last-guards.json", r.Guards))
}

// last returns the last finished transition of this boot, nil for none, as everybody
// may read it: the history has it whole.
func (f files) last() (*status.Record, error) {
	var r status.Record
	switch err := f.read("last-transition.json", &r); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &r, nil
}

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

// lock takes the lock that tells root's scripts a transition runs, and leaves the
// daemon's pid beside it for everybody's. Whoever may open a file may lock it, and
// keep us from ever working, so that nobody else may. Errors: somebody else holds it.
func (f files) lock() (unlock func() error, err error) {
	path := filepath.Join(f.dir, "lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock: %w", err)
	}
	if err := file.Chmod(0o600); err != nil { // an older daemon's
		return nil, errors.Join(fmt.Errorf("cannot close the lock to others: %w", err), file.Close())
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s, somebody else holds it: %w", path, err), file.Close())
	}
	unlock = func() error {
		return errors.Join(atomicfile.Remove(filepath.Join(f.dir, "reconcile.pid")), file.Close())
	}
	if err := f.word("reconcile.pid", strconv.Itoa(os.Getpid())); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// lockRebuildShared takes a share of the lock that nixos-rebuild takes for itself alone, so that
// no configuration is switched to while a transition runs. A host without the file
// has none to switch to. Errors: one is being switched to now, which is for a guard
// to judge; nobody waits for it.
func lockRebuildShared(path string) (release func() error, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock of nixos-rebuild: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot share the lock %s of nixos-rebuild: %w", path, err), file.Close())
	}
	return file.Close, nil
}
