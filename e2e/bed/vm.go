package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/qemu"
)

// VM is a running workstation. Its methods return errors; Machine is the same for tests.
type VM struct {
	Flavour Flavour

	process *qemu.Process
	agent   *guest.Client
	console string
	release func()
	closing sync.Once
	closed  error

	earlier []byte // journals of boots before the current one
}

// RestoreVM brings up the saved workstation. The caller closes it.
func RestoreVM(ctx context.Context, f Flavour, say Say) (*VM, error) {
	return newVM(ctx, f, say, (*bench).restore)
}

// BootVM brings up a workstation by booting its image, as far as the agent. The caller closes it.
func BootVM(ctx context.Context, f Flavour, say Say) (*VM, error) {
	return newVM(ctx, f, say, (*bench).boot)
}

func newVM(ctx context.Context, f Flavour, say Say, start func(*bench, context.Context) (*VM, error)) (*VM, error) {
	b, err := take(ctx, f, say)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	vm, err := start(b, ctx)
	if err != nil {
		b.release()
		return nil, err
	}
	say("the machine is up after %.2f s (%s)", time.Since(began).Seconds(), b.hardware.Accelerator)
	return vm, nil
}

// Close ends the machine's process and lets the next machine run.
func (v *VM) Close() error {
	v.closing.Do(func() {
		v.closed = v.process.Kill()
		v.release()
	})
	return v.closed
}

// Command is something to run in the guest.
type Command struct {
	Argv []string
	Env  []string // added to the environment, NAME=value
	// User runs the command as that user with the environment of the user's desktop, as far as there is one. Empty is
	// root.
	User string
	// InSession runs it inside the user's login session: logind and polkit then take it for a program on the desktop.
	InSession bool
	Stdin     io.Reader
}

// Output is what a command that ended has left.
type Output struct {
	Code           int // 128+N for signal N
	Stdout, Stderr string
	Both           string // in the order of arrival
}

// Script is a command that runs a POSIX shell script as root.
func Script(text string) Command { return Command{Argv: []string{"/bin/sh", "-c", text}} }

// As is the same command as that user.
func (c Command) As(user string) Command {
	c.User = user
	return c
}

// Within is the same command as that user within the user's login session.
func (c Command) Within(user string) Command {
	c.User, c.InSession = user, true
	return c
}

// Exec runs a command to its end. That the command fails is no error.
func (v *VM) Exec(ctx context.Context, c Command) (Output, error) {
	p, err := v.Start(ctx, c)
	if err != nil {
		return Output{}, err
	}
	code, err := p.Wait(ctx)
	out := p.Output()
	out.Code = code
	if err != nil {
		return out, fmt.Errorf("cannot run %q in the guest: %w", strings.Join(c.Argv, " "), err)
	}
	return out, nil
}

// Must runs a command that has to succeed and returns its standard output.
func (v *VM) Must(ctx context.Context, c Command) (string, error) {
	out, err := v.Exec(ctx, c)
	if err == nil && out.Code != 0 {
		err = fmt.Errorf("%q ended with code %d in the guest: %s", strings.Join(c.Argv, " "), out.Code, out.Both)
	}
	return out.Stdout, err
}

// Reboot restarts the guest in the ordinary way and returns when the agent of the new boot answers.
func (v *VM) Reboot(ctx context.Context) error {
	journal, err := v.Exec(ctx, Script(journalScript))
	if err != nil {
		return fmt.Errorf("cannot keep the journal before a reboot: %w", err)
	}
	v.earlier = append(v.earlier, journal.Both...)
	was := v.agent.BootID()
	// The agent may be gone before it can tell how the command ended.
	if _, err := v.Exec(ctx, Script("systemctl reboot")); err != nil && !errors.Is(err, guest.ErrRebooted) {
		return fmt.Errorf("cannot reboot: %w", err)
	}
	if _, err := v.agent.AwaitBoot(ctx, was); err != nil {
		return fmt.Errorf("cannot reboot: %w", err)
	}
	return v.meet(ctx)
}

// BootID names the guest's current boot.
func (v *VM) BootID() string { return v.agent.BootID() }
