package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dubnium/dubnium/e2e/internal/cache"
	"github.com/dubnium/dubnium/e2e/internal/image"
	"github.com/dubnium/dubnium/e2e/internal/qemu"
)

// Say reports progress to whoever waits: a test's log or a person's terminal.
type Say func(format string, args ...any)

// bench is the right to run a machine, and all that it is made from. It ends with release.
type bench struct {
	flavour  Flavour
	cache    *cache.Dir
	image    image.Image
	hardware qemu.Hardware
	run      string // an empty directory
	say      Say
	release  func()
}

// take waits until no other machine runs on this host and has the image ready.
func take(ctx context.Context, f Flavour, say Say) (_ *bench, err error) {
	if err := image.Require(ctx, say); err != nil {
		return nil, err
	}
	dir, err := cache.Open()
	if err != nil {
		return nil, err
	}
	b := &bench{flavour: f, cache: dir, say: say}
	if b.image, err = ensureImage(ctx, dir, f, say); err != nil {
		return nil, err
	}
	if b.release, err = lock(ctx, dir, machineLock, say); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	if b.run, err = dir.RunDir(); err != nil {
		return nil, err
	}
	b.hardware, err = b.chooseHardware(ctx)
	return b, err
}

// machineLock is held for as long as a machine runs; making an image, which takes minutes, does not need it.
const machineLock = "machine"

func (f Flavour) imageLock() string { return "image-" + f.Name }

func ensureImage(ctx context.Context, dir *cache.Dir, f Flavour, say Say) (image.Image, error) {
	release, err := lock(ctx, dir, f.imageLock(), say)
	if err != nil {
		return image.Image{}, err
	}
	defer release()
	return image.Ensure(ctx, dir, f.recipe, say)
}

// chooseHardware prefers KVM where a trial shows that it runs our kernel.
func (b *bench) chooseHardware(ctx context.Context) (qemu.Hardware, error) {
	tcg, err := qemu.Emulated(ctx)
	if err != nil {
		return tcg, err
	}
	wish := os.Getenv("E2E_ACCEL")
	switch wish {
	case "tcg":
		return tcg, nil
	case "", "kvm":
	default:
		return tcg, fmt.Errorf("unknown E2E_ACCEL %q: use kvm or tcg", wish)
	}
	kvm, err := tcg.Accelerated()
	if err != nil {
		return tcg, err
	}
	if err := b.try(ctx, kvm); err != nil {
		if wish == "kvm" {
			return tcg, err
		}
		return tcg, nil
	}
	return kvm, nil
}

// verdict is what a trial of KVM has shown, for as long as the host, QEMU and the kernel stay the same.
type verdict struct {
	Key   string `json:"key"`
	Error string `json:"error,omitempty"`
}

func (f Flavour) verdictName() string { return "kvm-" + f.Name + ".json" }

// try says whether the hardware runs the image's kernel. The trial's outcome is kept.
func (b *bench) try(ctx context.Context, h qemu.Hardware) error {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot use KVM: %w", err)
	}
	device.Close()
	hostBoot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("cannot tell the host's boot: %w", err)
	}
	key, err := cache.Key(h, b.image.Packages.Key, string(hostBoot))
	if err != nil {
		return err
	}
	file := filepath.Join(b.cache.Path(), b.flavour.verdictName())
	var known verdict
	if text, err := os.ReadFile(file); err != nil || json.Unmarshal(text, &known) != nil || known.Key != key {
		b.say("trying whether KVM works here")
		known = verdict{Key: key}
		if err := qemu.Probe(ctx, h, b.image.Kernel, b.image.Initrd, b.run); err != nil {
			known.Error = err.Error()
			b.say("%v: using emulation", err)
		}
		if ctx.Err() != nil {
			return ctx.Err() // the trial was cut short and has shown nothing
		}
		text, err := json.Marshal(known)
		if err == nil {
			err = os.WriteFile(file, text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("cannot keep the outcome of trying KVM: %w", err)
		}
	}
	if known.Error != "" {
		return errors.New(known.Error)
	}
	return nil
}

// overlay makes a disk that starts as the backing file and can be thrown away.
func overlay(ctx context.Context, path, backing, format string) error {
	cmd := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", format, path)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make a disk: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func lock(ctx context.Context, dir *cache.Dir, name string, say Say) (release func(), err error) {
	return dir.Lock(ctx, name, func(holder string) { say("waiting for the test bed (process %s has it)", holder) })
}

// Prune empties the cache. The next machine is made from scratch.
func Prune(ctx context.Context, say Say) error {
	dir, err := cache.Open()
	if err != nil {
		return err
	}
	for _, name := range []string{Sway().imageLock(), Hyprland().imageLock(), machineLock} {
		release, err := lock(ctx, dir, name, say)
		if err != nil {
			return err
		}
		defer release()
	}
	return dir.Prune()
}
