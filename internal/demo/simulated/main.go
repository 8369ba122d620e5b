// Command simulated plays the demo on a simulated workstation: `make demo`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/dubnium/dubnium/internal/demo"
	"github.com/dubnium/dubnium/internal/embedded"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "dubnium-demo")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	demo.Say("Building dubniumd, modectl and dubnium-probe.")
	programs, err := embedded.Build(ctx, dir)
	if err != nil {
		return err
	}
	demo.Say("Starting a simulated workstation on a private bus, and the real dubniumd on it.")
	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	w, err := embedded.Start(ctx, programs, embedded.Options{})
	if err != nil {
		return err
	}
	if err := errors.Join(demo.Play(ctx, simulated{w}), w.Close()); err != nil {
		return err
	}
	demo.Say("Everything above was checked. It took %.1f s and left nothing behind.", time.Since(started).Seconds())
	return nil
}

// simulated is the stage.
type simulated struct{ *embedded.Workstation }

func (s simulated) Mask(_ context.Context, unit string) error   { return s.Workstation.Mask(unit) }
func (s simulated) Unmask(_ context.Context, unit string) error { return s.Workstation.Unmask(unit) }
