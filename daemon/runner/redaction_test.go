package runner

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

const game = "secretgame (pid 77, game.service)"

// What the daemon knew when it died, the next one still keeps to itself.
func TestARecoveredTransitionKeepsItsSecrets(t *testing.T) {
	x := &Runner{}
	x.Journal = NewJournal(t.TempDir())
	x.entry.Format = journalFormat
	secret := observer.Secret{UID: 1001, Text: game, Instead: "a process"}
	x.addRedactions(secret)
	x.entry.Record.To, x.entry.Record.Cause = policy.Compute, game+" holds it"
	require.NoError(t, x.save())

	entry, err := x.Journal.Load()
	require.NoError(t, err)
	next := &Runner{entry: *entry}
	next.Journal = x.Journal
	require.NoError(t, next.save())
	assert.Equal(t, []observer.Secret{secret}, next.entry.Record.Private)
}

// A gate's words name who holds the GPU, and nobody may be left who does when they
// are written down.
func TestAnErrorCarriesTheSecretsThatItTells(t *testing.T) {
	dir := t.TempDir()
	var s observer.Snapshot
	s.Processes.At = time.Now()
	s.Processes.GPUs = []observer.GPU{{PCI: "0000:01:00.0", Display: true}}
	s.Processes.Holders = []observer.Holder{
		{GPU: "0000:01:00.0", PID: 77, Command: "secretgame", UID: 1001, Unit: "game.service"},
	}
	err := gate(policy.Default(), plans.Step{Guard: policy.CheckGPUDisplayReleased}, s)
	require.ErrorContains(t, err, game)
	for what, wrapped := range map[string]error{
		"as it is":        err,
		"in a step":       fmt.Errorf("step gate failed: %w", err),
		"with a deadline": fmt.Errorf("step gate failed: %w", fmt.Errorf("%w: %w", err, context.DeadlineExceeded)),
		"among others":    errors.Join(context.Canceled, fmt.Errorf("and: %w", err)),
	} {
		x := &Runner{}
		x.Journal = NewJournal(dir)
		x.entry.Record.Steps = []status.Step{{}}
		x.set(0, status.StepFailed, wrapped)
		require.NoError(t, x.save(), what)
		assert.NotContains(t, x.entry.Record.For(observer.Nobody).Steps[0].Error, "secretgame", what)
		assert.Contains(t, x.entry.Record.For(1001).Steps[0].Error, game, what)
	}
	assert.Empty(t, sensitiveOf(errors.Join(context.Canceled, nil)))
}
