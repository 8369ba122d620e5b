// Command demo shows Dubnium's main job on a simulated workstation: `make demo`.
// Each scene says what should come of it, and the demo fails when it does not.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/dubnium/dubnium/internal/embedded"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	started := time.Now()
	dir, err := os.MkdirTemp("", "dubnium-demo")
	if err != nil {
		return fmt.Errorf("cannot make a directory: %w", err)
	}
	defer os.RemoveAll(dir)
	say("Building dubniumd, modectl and dubnium-probe.")
	programs, err := embedded.Build(context.WithoutCancel(ctx), dir)
	if err != nil {
		return err
	}
	say("Starting a simulated workstation on a private bus, and the real dubniumd on it.")
	w, err := embedded.Start(ctx, programs, embedded.Options{})
	if err != nil {
		return err
	}
	defer w.Close()
	for _, s := range scenes(w) {
		if err := play(ctx, w, s); err != nil {
			return err
		}
	}
	say("Everything above was checked. It took %.1f s and left nothing behind.", time.Since(started).Seconds())
	return nil
}

// scene is one command and what must come of it.
type scene struct {
	say     string
	prepare func() error
	args    string
	code    int
	prints  string // in what is printed
	leaves  string // what `modectl current` says afterwards
}

func scenes(w *embedded.Workstation) []scene {
	return []scene{
		{
			say:  "alice is at her desk. What was asked of the machine and what it is are two things.",
			args: "status", prints: "desktop", leaves: "desktop",
		},
		{
			say:  "She wants to record: studio-local is an overlay, her session stays.",
			args: "request studio-local", prints: "studio-local", leaves: "studio-local",
		},
		{say: "And back.", args: "request desktop", prints: "desktop", leaves: "desktop"},
		{
			say:     "Somebody has masked compute.target. A refusal says why, and what would clear it.",
			prepare: func() error { return w.Mask("compute.target") },
			args:    "request compute", code: 18, prints: "systemctl unmask compute.target", leaves: "desktop",
		},
		{
			say:  "The wish stays on record; nothing retries by itself, and nothing has changed.",
			args: "status", prints: "compute.target is masked", leaves: "desktop",
		},
		{
			say:     "It is unmasked. Now the session ends, the GPU is proved free, and vLLM serves before this says so.",
			prepare: func() error { return w.Unmask("compute.target") },
			args:    "request compute", prints: "compute", leaves: "compute",
		},
		{
			say:  "The way back: vLLM drains, its GPU is freed, the desktop comes up and alice can work.",
			args: "request desktop", prints: "desktop", leaves: "desktop",
		},
		{say: "All of it is on record.", args: "history", prints: "blocked", leaves: "desktop"},
	}
}

func play(ctx context.Context, w *embedded.Workstation, s scene) error {
	say("%s", s.say)
	if s.prepare != nil {
		if err := s.prepare(); err != nil {
			return err
		}
	}
	fmt.Printf("\n  $ modectl %s\n", s.args)
	stdout, stderr, code, err := w.Modectl(ctx, strings.Fields(s.args)...)
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
	current, _, _, err := w.Modectl(ctx, "current")
	if now := strings.TrimSpace(current); err != nil || now != s.leaves {
		return fmt.Errorf("the machine is %q after modectl %s, not %s (%v)", now, s.args, s.leaves, err)
	}
	return nil
}

func say(format string, args ...any) { fmt.Printf("\n# "+format+"\n", args...) }
