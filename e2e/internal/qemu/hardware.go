package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// Emulated is the hardware that every host can offer.
func Emulated(ctx context.Context) (Hardware, error) {
	version, err := output(ctx, "--version")
	if err != nil {
		return Hardware{}, err
	}
	machines, err := output(ctx, "-machine", "help")
	if err != nil {
		return Hardware{}, err
	}
	machine, err := pickMachine(machines)
	if err != nil {
		return Hardware{}, err
	}
	first, _, _ := strings.Cut(version, "\n")
	return Hardware{Version: first, Machine: machine, Accelerator: "tcg", CPU: emulated}, nil
}

// emulated is the processor without KVM: one without AVX. Emulating that costs more than programs gain by it, and the
// machines are a quarter slower with QEMU's "max".
const emulated = "Nehalem"

// Accelerated is the same with KVM.
func (h Hardware) Accelerated() (Hardware, error) {
	h.Accelerator, h.CPU = "kvm", "host"
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return h, fmt.Errorf("cannot tell the host's processor: %w", err)
	}
	h.HostCPU = processor(string(info))
	return h, nil
}

func output(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, Binary, args...).Output()
	if err != nil {
		return "", fmt.Errorf("cannot run %s %s: %w", Binary, strings.Join(args, " "), err)
	}
	return string(out), nil
}

var q35Alias = regexp.MustCompile(`(?m)^q35\s.*\(alias of (\S+)\)`)

// pickMachine finds the versioned name of q35: the plain one means another machine in the next QEMU.
func pickMachine(help string) (string, error) {
	m := q35Alias.FindStringSubmatch(help)
	if m == nil {
		return "", errors.New("cannot find a versioned q35 among QEMU's machines")
	}
	return m[1], nil
}

// processor condenses what /proc/cpuinfo says of the first processor's model and features.
func processor(info string) string {
	var said []string
	first, _, _ := strings.Cut(info, "\n\n")
	for line := range strings.Lines(first) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name", "model", "stepping", "microcode", "flags":
			said = append(said, strings.TrimSpace(value))
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(said, "\n")))
	return hex.EncodeToString(sum[:8])
}

// Probe finds out whether the hardware really runs the kernel: /dev/kvm may exist and not work, or not for this kernel.
// dir is for the probe's files. nil means that it runs.
func Probe(ctx context.Context, h Hardware, kernel, initrd, dir string) error {
	const deadline = 10 * time.Second // a kernel that runs natively needs one
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	console := filepath.Join(dir, "probe.log")
	p, err := Start(ctx, h, Boot{
		Kernel: kernel, Initrd: initrd, Memory: filepath.Join(dir, "probe.memory"), Console: console,
		Words: wire.ProbeWord, NoReboot: true,
	})
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", h.Accelerator, err)
	}
	select {
	case <-p.Exited():
	case <-ctx.Done():
	}
	if err := p.Kill(); err != nil {
		return err
	}
	text, err := os.ReadFile(console)
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", h.Accelerator, err)
	}
	if !strings.Contains(string(text), wire.ProbeMark) {
		return fmt.Errorf("cannot use %s: the kernel did not get as far as its first program", h.Accelerator)
	}
	return nil
}
