//go:build faultpoints

// Package fault has the points at which a test makes the program fail, hang or die. Each
// point has a name. Without the build tag faultpoints there are none, and At is inlined to
// nothing.
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

// At is a fault point. Its name is WHERE.WHAT, with the last element of the path where. It
// returns the injected error.
func At(ctx context.Context, where, what string) error {
	name := filepath.Base(where) + "." + what
	if err := armed.at(ctx, name); err != nil {
		return err
	}
	if handle := handler(where); handle != nil {
		return handle(ctx, name)
	}
	return nil
}

// Handler runs at the points of one test. It may block; its error is injected.
type Handler func(ctx context.Context, point string) error

var (
	mu       sync.RWMutex
	handlers = map[string]Handler{}
)

// Handle runs the handler at every point below the directory dir until remove is called.
// Tests with different directories can run at the same time.
func Handle(dir string, handle Handler) (remove func()) {
	mu.Lock()
	defer mu.Unlock()
	handlers[dir] = handle
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
		if handle := handlers[dir]; handle != nil {
			return handle
		}
	}
	return nil
}

// Variable is the environment variable that arms one point of a program: NAME=HOW or
// NAME:N=HOW. HOW is fail, hang or die; the point acts on its Nth pass (default 1).
const Variable = "DUBNIUM_FAULT"

// ErrInjected is the error of a point.
var ErrInjected = errors.New("injected failure at the fault point")

// arm is an armed point.
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
			return nil, fmt.Errorf("cannot parse %q: %q is not a positive number", text, n)
		}
		a.point, a.nth = name, nth
	}
	if a.point == "" || how != "fail" && how != "hang" && how != "die" {
		return nil, fmt.Errorf("cannot parse %q: expected NAME:N=HOW, with fail, hang or die", text)
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
		select {} // until the signal arrives
	case "hang":
		<-ctx.Done() // for ever without a deadline, like a disk that hangs
		return ctx.Err()
	}
	return fmt.Errorf("%w %s", ErrInjected, name)
}
