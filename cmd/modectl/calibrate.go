package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/calibration"
	"github.com/dubnium/dubnium/policy"
)

// calibrate measures what policy cannot know of a host beforehand.
func (c *commands) calibrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "calibrate",
		Short: "Measure what the policy of this host should say",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return exit{exitMisuse, errors.New("calibrate takes what to measure: gpu")}
		},
	}
	cmd.AddCommand(c.calibrateGPU())
	return cmd
}

func (c *commands) calibrateGPU() *cobra.Command {
	var w gpuWatch
	var show bool
	cmd := &cobra.Command{
		Use:   "gpu",
		Short: "Measure the memory of a released display GPU, and propose gpu.residual_mib",
		Long: `calibrate gpu looks at the display GPUs until they have been released --releases times,
by transitions to compute or by stopping the display manager, and proposes how much of
their memory policy should let be in use then. It changes nothing. What it measured is
added to a record, from all of which the proposal is made; interrupt it when you like.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if w.file == "" {
				file, err := stateFile("gpu-calibration.jsonl")
				if err != nil {
					return failure(err)
				}
				w.file = file
			}
			if w.interval <= 0 || w.releases <= 0 {
				return exit{exitMisuse, errors.New("calibrate gpu takes an --interval and --releases of more than zero")}
			}
			w.commands = c
			if err := w.run(cmd.Context(), show); err != nil {
				return failure(err)
			}
			proposal := calibration.Propose(w.known)
			if c.json {
				return c.print(render.CalibrationJSON(w.file, w.known, proposal))
			}
			return c.print(render.Calibration(w.file, proposal))
		},
	}
	cmd.Flags().StringVar(&w.file, "file", "", "the record `FILE` (default dubnium/gpu-calibration.jsonl in the state directory)")
	cmd.Flags().IntVar(&w.releases, "releases", 5, "end after `N` measured releases")
	cmd.Flags().DurationVar(&w.interval, "interval", 500*time.Millisecond, "look that often; only root may more than once a second")
	cmd.Flags().BoolVar(&show, "show", false, "look at nothing, make the proposal from the record as it is")
	return cmd
}

// stateFile is a file in the user's state directory (XDG base directories).
func stateFile(name string) (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("cannot tell where the record is, name it with --file: %w", err)
		}
		state = filepath.Join(home, ".local/state")
	}
	return filepath.Join(state, "dubnium", name), nil
}

// gpuWatch watches releases until there are enough.
type gpuWatch struct {
	*commands
	file     string
	releases int
	interval time.Duration

	known  []calibration.Release // the record, with what was added
	record *os.File
	watch  calibration.Watch
	passes int // of this run
}

// run reads the record and, unless it is only to be shown, adds to it. An
// interruption is a way to end.
func (w *gpuWatch) run(ctx context.Context, show bool) (err error) {
	if show {
		file, err := os.Open(w.file)
		if err != nil {
			return fmt.Errorf("cannot read the record: %w", err)
		}
		defer file.Close()
		w.known, _, err = calibration.Read(file)
		return err
	}
	daemon, err := client.Open(ctx, client.Options{})
	if err != nil {
		return err
	}
	defer daemon.Close()
	if err := daemon.Follow(ctx); err != nil {
		return err
	}
	// Nothing is written before it is clear that there is something to measure.
	first, err := daemon.Observe(ctx)
	if err == nil {
		err = measurable(first)
	}
	if err == nil {
		err = w.open()
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.record.Close()) }()
	err = w.look(ctx, daemon, first)
	for _, r := range w.watch.Finish() {
		err = errors.Join(err, w.add(r))
	}
	if errors.Is(err, client.ErrStopped) && ctx.Err() != nil {
		return nil
	}
	return err
}

// measurable says why there is nothing to measure.
func measurable(e busapi.Evidence) error {
	s := e.Snapshot
	p, err := policy.Parse("the daemon's policy", []byte(e.Policy))
	switch {
	case err != nil:
		return err
	case !s.GPU.Known():
		return fmt.Errorf("cannot calibrate: %s", s.GPU.Reason)
	case !s.GPU.Driver:
		return errors.New("cannot calibrate: this host has no NVIDIA driver")
	}
	displays := observer.DisplayGPUs(p, s.Processes)
	if !slices.ContainsFunc(s.GPU.Cards, func(c observer.Card) bool { return slices.Contains(displays, c.PCI) }) {
		return errors.New("cannot calibrate: NVML lists no display GPU of this host")
	}
	return nil
}

// open goes on with the record, or begins it.
func (w *gpuWatch) open() error {
	if err := os.MkdirAll(filepath.Dir(w.file), 0o700); err != nil {
		return fmt.Errorf("cannot make the record: %w", err)
	}
	file, err := os.OpenFile(w.file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cannot open the record: %w", err)
	}
	known, kept, err := calibration.Read(file)
	if err == nil {
		_, err = file.Seek(kept, 0)
	}
	if err == nil {
		err = file.Truncate(kept)
	}
	if err == nil && kept == 0 {
		err = calibration.Begin(file)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	w.known, w.record = known, file
	return nil
}

// look samples until enough releases were measured. Its error is why it ended
// before.
func (w *gpuWatch) look(ctx context.Context, daemon *client.Client, e busapi.Evidence) error {
	w.say("watching the display GPUs; release them, or interrupt")
	for {
		if err := w.sample(e); err != nil || w.passes >= w.releases {
			return err
		}
		// Memory that moves sends no signal; what the modes do, does.
		waiting, stop := context.WithTimeout(ctx, w.interval)
		err := daemon.Changed(waiting)
		stop()
		if err != nil && (ctx.Err() != nil || !errors.Is(err, client.ErrStopped)) {
			return err
		}
		next, err := daemon.Observe(ctx)
		switch {
		case err == nil:
			e = next
		case !errors.Is(err, busapi.ErrRateLimited): // else the look before is seen again
			return err
		}
	}
}

func (w *gpuWatch) sample(e busapi.Evidence) error {
	p, err := policy.Parse("the daemon's policy", []byte(e.Policy))
	if err != nil {
		return err
	}
	for _, s := range calibration.Samples(p, e.Observation, e.Snapshot) {
		if r := w.watch.Add(s); r != nil {
			if err := w.add(*r); err != nil {
				return err
			}
		}
	}
	return nil
}

// add keeps a release: on disk first, so that no interruption loses it.
func (w *gpuWatch) add(r calibration.Release) error {
	if err := calibration.Write(w.record, r); err != nil {
		return fmt.Errorf("cannot write the record: %w", err)
	}
	w.known = append(w.known, r)
	if r.Outcome == calibration.Pass {
		w.passes++
	}
	w.say(render.Release(r))
	return nil
}

// say tells a person who waits how it goes; scripts read the record.
func (w *gpuWatch) say(text string) {
	if !w.json {
		fmt.Fprintln(w.stderr, text)
	}
}
