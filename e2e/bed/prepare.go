package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dubnium/dubnium/e2e/internal/cache"
	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/qemu"
)

// Preparation is what many tests want done to the saved workstation first. It is done once, and the machine is saved
// again after it.
type Preparation struct {
	// Key is everything that Do depends on, such as a hash of the files it puts. It must marshal as JSON.
	Key any
	Do  func(context.Context, *VM) error
}

// RestorePrepared brings up the saved workstation after a preparation. The machine ends with the test.
func RestorePrepared(t T, p Preparation) *Machine {
	t.Helper()
	return begin(t, func(ctx context.Context, f Flavour, say Say) (*VM, error) {
		return newVM(ctx, f, say, func(b *bench, ctx context.Context) (*VM, error) { return b.prepared(ctx, p) })
	})
}

// prepared is restore with another state, which is made from restore's.
func (b *bench) prepared(ctx context.Context, p Preparation) (*VM, error) {
	base, err := b.stateEntry()
	if err != nil {
		return nil, err
	}
	key, err := cache.Key(base.Key, p.Key)
	if err != nil {
		return nil, err
	}
	entry := cache.Entry{Kind: "prepared-" + b.flavour.Name, Key: key}
	b.cache.Find(base) // its disk lies under that of the prepared state: do not let it be pruned
	if state, ok := b.cache.Find(entry); ok {
		vm, err := b.restoreFrom(ctx, state)
		if err == nil || ctx.Err() != nil {
			return vm, err
		}
		b.say("the prepared state is of no use, making another: %v", err)
	}
	// This makes the state of restore when there is none, or finds out that it is of no use.
	vm, err := b.restore(ctx)
	if err != nil {
		return nil, err
	}
	if err := vm.process.Kill(); err != nil {
		return nil, err
	}
	state, _ := b.cache.Find(base)
	b.say("preparing the machine, once for this build")
	made, err := b.cache.Make(entry, func(dir string) error {
		var failures []error
		for range prepareTries {
			err := b.prepare(ctx, state, dir, p)
			if !errors.Is(err, guest.ErrRebooted) || ctx.Err() != nil {
				return err
			}
			b.say("preparing again: %v\n%s", err, b.consoleTail())
			failures = append(failures, err)
		}
		return errors.Join(failures...)
	})
	if err != nil {
		return nil, err
	}
	return b.restoreFrom(ctx, made)
}

// prepareTries: under emulation the guest's kernel panicked once in about 60
// preparations. No test has begun then.
const prepareTries = 3

// consoleTail is the end of what the guest printed on its console.
func (b *bench) consoleTail() string {
	text, err := os.ReadFile(filepath.Join(b.run, consoleName))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// prepare restores state onto files of its own in dir, does the preparation and saves the machine there.
func (b *bench) prepare(ctx context.Context, state, dir string, p Preparation) error {
	memory, disk := filepath.Join(dir, memoryName), filepath.Join(dir, diskName)
	// The memory is a file that the machine writes to: a copy, but not of its holes.
	out, err := exec.CommandContext(
		ctx, "cp", "--sparse=always", "--reflink=auto", filepath.Join(state, memoryName), memory,
	).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot copy the memory: %w: %s", err, strings.TrimSpace(string(out)))
	}
	if err := overlay(ctx, disk, filepath.Join(state, diskName), "qcow2"); err != nil {
		return err
	}
	boot := b.bootFrom(disk, memory)
	boot.SaveLater = true
	process, err := qemu.Restore(ctx, b.hardware, boot, filepath.Join(state, devicesName))
	if err != nil {
		return err
	}
	vm := b.vm(process)
	if err := vm.meet(ctx); err != nil {
		return errors.Join(err, process.Kill())
	}
	if err := p.Do(ctx, vm); err != nil {
		return errors.Join(err, process.Kill())
	}
	if err := process.Save(ctx, filepath.Join(dir, devicesName)); err != nil {
		return errors.Join(err, process.Kill())
	}
	return nil
}
