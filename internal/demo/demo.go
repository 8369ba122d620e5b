// Package demo plays Dubnium's main job, scene by scene. Each scene says what
// should come of it, and the play fails when it does not. It is played on a
// simulated workstation by `make demo`, on a real one by `make demo-vm`.
package demo

import (
	"context"
	"fmt"
	"strings"
)

// Stage is the workstation that the scenes are played on.
type Stage interface {
	// Modectl runs modectl as root; err says that it could not be run at all.
	Modectl(ctx context.Context, args ...string) (stdout, stderr string, code int, err error)
	Mask(ctx context.Context, unit string) error
	Unmask(ctx context.Context, unit string) error
}

// scene is one command and what must come of it.
type scene struct {
	say     string
	prepare func(context.Context, Stage) error
	args    string
	code    int
	prints  string // in what is printed
	leaves  string // what `modectl current` says afterwards
}

var scenes = []scene{
	{
		say:  "alice is at her desk. What was asked of the machine and what it is are two things.",
		args: "status", prints: "desktop", leaves: "desktop",
	},
	{
		say:  "She wants to record: studio-local is an overlay, her session stays; timers fall quiet, and slices weigh for her.",
		args: "request studio-local", prints: "set-slices-studio-local", leaves: "studio-local",
	},
	{say: "And back: all of it is what it was.", args: "request desktop", prints: "set-slices-desktop", leaves: "desktop"},
	{
		say:     "Somebody has masked compute.target. A refusal says why, and what would clear it.",
		prepare: func(ctx context.Context, s Stage) error { return s.Mask(ctx, "compute.target") },
		args:    "request compute", code: 18, prints: "systemctl unmask compute.target", leaves: "desktop",
	},
	{
		say:  "The request stays on record; nothing retries by itself, and nothing has changed.",
		args: "status", prints: "compute.target is masked", leaves: "desktop",
	},
	{
		say:     "It is unmasked. Now the session ends, the GPU is proved free, and vLLM serves before this says so.",
		prepare: func(ctx context.Context, s Stage) error { return s.Unmask(ctx, "compute.target") },
		args:    "request compute", prints: "compute", leaves: "compute",
	},
	{
		say:  "The way back: vLLM drains, its GPU is freed, the desktop comes up and alice can work.",
		args: "request desktop", prints: "desktop", leaves: "desktop",
	},
	{say: "All of it is on record.", args: "history", prints: "blocked", leaves: "desktop"},
}

// Play plays every scene and stops at the first that goes wrong.
func Play(ctx context.Context, stage Stage) error {
	for _, s := range scenes {
		if err := play(ctx, stage, s); err != nil {
			return err
		}
	}
	return nil
}

func play(ctx context.Context, stage Stage, s scene) error {
	Say("%s", s.say)
	if s.prepare != nil {
		if err := s.prepare(ctx, stage); err != nil {
			return err
		}
	}
	fmt.Printf("\n  $ modectl %s\n", s.args)
	stdout, stderr, code, err := stage.Modectl(ctx, strings.Fields(s.args)...)
	if err != nil {
		return fmt.Errorf("cannot run modectl %s: %w", s.args, err)
	}
	for line := range strings.Lines(stderr + stdout) {
		fmt.Print("  ", line)
	}
	switch {
	case code != s.code:
		return fmt.Errorf("modectl %s exited with %d, not %d", s.args, code, s.code)
	case !strings.Contains(stderr+stdout, s.prints):
		return fmt.Errorf("modectl %s does not say %q", s.args, s.prints)
	}
	if code != 0 {
		fmt.Printf("  (exit code %d)\n", code)
	}
	current, _, _, err := stage.Modectl(ctx, "current")
	if now := strings.TrimSpace(current); err != nil || now != s.leaves {
		return fmt.Errorf("the machine is %q after modectl %s, not %s (%v)", now, s.args, s.leaves, err)
	}
	return nil
}

// Say tells the audience something.
func Say(format string, args ...any) { fmt.Printf("\n# "+format+"\n", args...) }
