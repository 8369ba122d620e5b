package bed

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dubnium/dubnium/e2e/internal/cache"
	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/qemu"
)

// The files of a saved state: the disk (an overlay of the image), the memory and the devices.
const (
	diskName    = "disk.qcow2"
	memoryName  = "memory"
	devicesName = "devices"
	consoleName = "console.log"
)

const (
	// bootTries: an early kernel panic was seen once in 26 cold boots under emulation.
	bootTries = 3
	// bootTime is enough for four times the slowest boot measured.
	bootTime = 4 * time.Minute
)

func (b *bench) stateEntry() (cache.Entry, error) {
	key, err := cache.Key(b.image.Entry.Key, b.hardware.Key(), b.flavour.answers, audioReady, settled)
	return cache.Entry{Kind: "state-" + b.flavour.Name, Key: key}, err
}

// restore brings up a machine in the saved state, which it makes first when there is none. A state that turns out to be
// unusable is made anew, once.
func (b *bench) restore(ctx context.Context) (*VM, error) {
	entry, err := b.stateEntry()
	if err != nil {
		return nil, err
	}
	if state, ok := b.cache.Find(entry); ok {
		vm, err := b.restoreFrom(ctx, state)
		if err == nil || ctx.Err() != nil {
			return vm, err
		}
		b.say("the saved state is of no use, making another: %v", err)
		if err := b.cache.Drop(entry); err != nil {
			return nil, err
		}
	}
	state, err := b.makeState(ctx, entry)
	if err != nil {
		return nil, err
	}
	return b.restoreFrom(ctx, state)
}

func (b *bench) restoreFrom(ctx context.Context, state string) (*VM, error) {
	disk := filepath.Join(b.run, diskName)
	if err := overlay(ctx, disk, filepath.Join(state, diskName), "qcow2"); err != nil {
		return nil, err
	}
	process, err := qemu.Restore(ctx, b.hardware, b.bootFrom(disk, filepath.Join(state, memoryName)),
		filepath.Join(state, devicesName))
	if err != nil {
		return nil, err
	}
	vm := b.vm(process)
	if err := vm.meet(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot reach the restored machine: %w", err), process.Kill())
	}
	return vm, nil
}

// meet sets the guest's clock, which learns who the agent is. A restored agent answers at once or never.
func (v *VM) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return v.agent.SetClock(ctx)
}

// boot brings up a machine from the image, as far as the agent.
func (b *bench) boot(ctx context.Context) (*VM, error) {
	disk := filepath.Join(b.run, diskName)
	if err := overlay(ctx, disk, b.image.Disk, "raw"); err != nil {
		return nil, err
	}
	return b.start(ctx, b.bootFrom(disk, filepath.Join(b.run, memoryName)))
}

func (b *bench) start(ctx context.Context, boot qemu.Boot) (*VM, error) {
	process, err := qemu.Start(ctx, b.hardware, boot)
	if err != nil {
		return nil, err
	}
	vm := b.vm(process)
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	if _, err := vm.agent.AwaitBoot(ctx, ""); err != nil {
		return nil, errors.Join(err, process.Kill(), process.Err())
	}
	if err := vm.meet(ctx); err != nil {
		return nil, errors.Join(err, process.Kill())
	}
	return vm, nil
}

func (b *bench) bootFrom(disk, memory string) qemu.Boot {
	return qemu.Boot{
		Kernel: b.image.Kernel, Initrd: b.image.Initrd, Disk: disk, Memory: memory,
		Console: filepath.Join(b.run, consoleName),
	}
}

func (b *bench) vm(process *qemu.Process) *VM {
	return &VM{
		Flavour: b.flavour, process: process, agent: guest.NewClient(process.Agent), release: b.release,
		console: filepath.Join(b.run, consoleName),
	}
}

// makeState boots until the desktop is up and saves the machine there.
func (b *bench) makeState(ctx context.Context, entry cache.Entry) (string, error) {
	b.say("booting %s (%s) once, to save its state", b.flavour.Name, b.hardware.Accelerator)
	began := time.Now()
	path, err := b.cache.Make(entry, func(dir string) error {
		var failures []error
		for try := range bootTries {
			err := b.bootAndSave(ctx, dir)
			if err == nil || ctx.Err() != nil {
				return err
			}
			b.say("try %d to boot failed: %v", try+1, err)
			failures = append(failures, err)
		}
		return errors.Join(failures...)
	})
	if err == nil {
		b.say("booted and saved in %.1f s", time.Since(began).Seconds())
	}
	return path, err
}

func (b *bench) bootAndSave(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	disk := filepath.Join(dir, diskName)
	if err := overlay(ctx, disk, b.image.Disk, "raw"); err != nil {
		return err
	}
	boot := b.bootFrom(disk, filepath.Join(dir, memoryName))
	boot.SaveLater = true
	vm, err := b.start(ctx, boot)
	if err != nil {
		return err
	}
	err = vm.WaitDesktop(ctx)
	if err == nil {
		err = vm.waitScript(ctx, "the machine to be quiet", "", settled)
	}
	if err != nil {
		return errors.Join(err, vm.testify(b.say, "boot-"+b.flavour.Name), vm.process.Kill())
	}
	if err := vm.process.Save(ctx, filepath.Join(dir, devicesName)); err != nil {
		return errors.Join(err, vm.process.Kill())
	}
	return nil
}
