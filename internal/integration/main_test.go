//go:build integration

package integration

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// programs are built once.
var programs embedded.Programs

func TestMain(m *testing.M) {
	if socket := os.Getenv(lendSocket); socket != "" {
		if err := lend(socket); err != nil {
			fmt.Fprintln(os.Stderr, "cannot lend a connection:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if os.Geteuid() == 0 {
		if err := enterOwnNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, "cannot give the tests a mount namespace of their own:", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "dubnium-programs")
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot make a directory:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // other users run them too
		fmt.Fprintln(os.Stderr, "cannot open the directory of the programs:", err)
		return 1
	}
	if programs, err = embedded.Build(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// patience bounds everything that a test waits for. It is reached only by a
// test that fails.
const patience = 30 * time.Second

// start brings up a workstation for the test. The policy's bounds are generous:
// a test shortens the one that it is about.
func start(t *testing.T, host testhost.Options, change func(*policy.Policy)) *embedded.Workstation {
	t.Helper()
	return startFor(bounded(t), t, embedded.Options{Host: host, Policy: change, Log: t.Output()})
}

// startFor brings up a workstation that goes on by itself until ctx ends.
func startFor(ctx context.Context, t *testing.T, opts embedded.Options) *embedded.Workstation {
	t.Helper()
	w, err := embedded.Start(ctx, programs, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("the workstation: %v", err)
		}
	})
	// The bus lets everybody in; so must the directory that its socket is in.
	require.NoError(t, os.Chmod(w.Dir(), 0o755))
	return w
}

// bounded is a context that outlives neither the test nor patience.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	return ctx
}
