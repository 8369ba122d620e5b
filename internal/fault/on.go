//go:build faultpoints

// Package fault is where a test makes this program fail, hang or die on purpose.
// Each place is a point with a name; without the build tag faultpoints there is
// none, and what is here is inlined to nothing.
package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// At is a point: what of where. where is a path, of which the last element counts,
// or a word. The error is what fails there.
func At(ctx context.Context, where, what string) error {
	name := filepath.Base(where) + "." + what
	if err := armed.at(ctx, name); err != nil {
		return err
	}
	if hear := handler(where); hear != nil {
		return hear(ctx, name)
	}
	return nil
}

// Handler decides what happens at a point of a test's own: it returns, returns an
// error, or takes its time.
type Handler func(ctx context.Context, point string) error

var (
	mu       sync.RWMutex
	handlers = map[string]Handler{}
)

// Handle has hear decide at every point below the directory dir until remove is
// called, so that many tests can do so at once.
func Handle(dir string, hear Handler) (remove func()) {
	mu.Lock()
	defer mu.Unlock()
	handlers[dir] = hear
	return func() {
		mu.Lock()
		defer mu.Unlock()
		delete(handlers, dir)
	}
}

func handler(where string) Handler {
	mu.RLock()
	defer mu.RUnlock()
	for dir := filepath.Dir(where); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if hear := handlers[dir]; hear != nil {
			return hear
		}
	}
	return nil
}

// Variable arms one point of a program: NAME=HOW or NAME:N=HOW, HOW being fail,
// hang or die, N the how manyth time that the point is met (1 when it is left out).
const Variable = "DUBNIUM_FAULT"

// ErrInjected is what a point fails with.
var ErrInjected = errors.New("fails on purpose at the fault point")

// arm is a point with what happens there.
type arm struct {
	point, how string
	nth        int64
	met        atomic.Int64
}

var armed = mustArm(os.Getenv(Variable))

func mustArm(text string) *arm {
	a, err := parse(text)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", Variable, err)
		os.Exit(2)
	}
	return a
}

func parse(text string) (*arm, error) {
	if text == "" {
		return nil, nil
	}
	point, how, _ := strings.Cut(text, "=")
	a := &arm{point: point, how: how, nth: 1}
	if name, n, counted := strings.Cut(point, ":"); counted {
		nth, err := strconv.ParseInt(n, 10, 64)
		if err != nil || nth < 1 {
			return nil, fmt.Errorf("cannot read %q: %q is no number from 1 on", text, n)
		}
		a.point, a.nth = name, nth
	}
	if a.point == "" || how != "fail" && how != "hang" && how != "die" {
		return nil, fmt.Errorf("cannot read %q: write it like transition.json.save:3=die, with fail, hang or die", text)
	}
	return a, nil
}

func (a *arm) at(ctx context.Context, name string) error {
	if a == nil || a.point != name || a.met.Add(1) != a.nth {
		return nil
	}
	fmt.Fprintf(os.Stderr, "fault point %s, time %d: %s\n", name, a.nth, a.how)
	switch a.how {
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	case "hang":
		<-ctx.Done() // for ever where nothing bounds it, as on a disk that hangs
		return ctx.Err()
	}
	return fmt.Errorf("%w %s", ErrInjected, name)
}
