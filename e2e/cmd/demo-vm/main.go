// Command demo-vm plays the demo on a real workstation in a virtual machine:
// `make demo-vm`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/dubnium/dubnium/e2e/bed"
	"github.com/dubnium/dubnium/e2e/stage"
	"github.com/dubnium/dubnium/internal/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo-vm: FAILED: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	flavour, err := bed.FlavourFromEnv()
	if err != nil {
		return err
	}
	tree, err := stage.Tree(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	demo.Say("Bringing up a workstation with %s, and Dubnium on it.", flavour.Name)
	vm, err := bed.RestoreVM(ctx, flavour, func(format string, args ...any) { demo.Say(format, args...) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if err := errors.Join(stage.Install(ctx, vm, tree), stage.Serve(ctx, vm)); err != nil {
		return err
	}
	started := time.Now()
	if err := demo.Play(ctx, machine{vm}); err != nil {
		return err
	}
	demo.Say("Everything above was checked, and took %.0f s.", time.Since(started).Seconds())
	return nil
}

// machine is the stage.
type machine struct{ vm *bed.VM }

func (m machine) Modectl(ctx context.Context, args ...string) (stdout, stderr string, code int, err error) {
	out, err := m.vm.Exec(ctx, bed.Command{Argv: append([]string{"modectl"}, args...)})
	return out.Stdout, out.Stderr, out.Code, err
}

func (m machine) Mask(ctx context.Context, unit string) error {
	_, err := m.vm.Must(ctx, bed.Command{Argv: []string{"systemctl", "mask", "-q", "--runtime", unit}})
	return err
}

func (m machine) Unmask(ctx context.Context, unit string) error {
	_, err := m.vm.Must(ctx, bed.Command{Argv: []string{"systemctl", "unmask", "-q", "--runtime", unit}})
	return err
}
