package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dubnium/dubnium/daemon"
	"github.com/dubnium/dubnium/policy"
)

// reloads is an engine that takes every policy, or answers as it is told.
type reloads struct {
	got   []policy.Document
	later chan error
	err   error
	told  []string // why one is not in force
}

func (r *reloads) PolicyRefused(_ context.Context, why string) error {
	r.told = append(r.told, why)
	return nil
}

func (r *reloads) Reload(_ context.Context, next policy.Document) (<-chan error, error) {
	r.got = append(r.got, next)
	return r.later, r.err
}

// reloading is one reload of a policy file, with what it tells and logs.
func reloading(t *testing.T, text string, e *reloads) (told chan string, logs *observer.ObservedLogs) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "p.toml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	core, logs := observer.New(zapcore.InfoLevel)
	told = make(chan string, 8)
	r := reloader{
		file, e, zap.New(core),
		func(_ *zap.Logger, state string) { told <- strings.ReplaceAll(state, filepath.Dir(file)+"/", "") },
	}
	r.reload(t.Context())
	begin := <-told
	require.True(t, strings.HasPrefix(begin, "RELOADING=1\nMONOTONIC_USEC="), begin)
	return told, logs
}

func TestAGoodPolicyIsHandedOn(t *testing.T) {
	e := &reloads{}
	told, _ := reloading(t, `transitions = "all"`, e)
	assert.Equal(t, "READY=1\nSTATUS=the policy of p.toml is in force", <-told)
	assert.Equal(t, policy.TrustAll, e.got[0].Transitions)
	assert.Empty(t, e.told)
}

const rejected = "new policy rejected, previous policy still in force: "

func TestABadPolicyIsRefusedWithItsFindings(t *testing.T) {
	e := &reloads{}
	told, logs := reloading(t, "colour = 1\ntransitions = 2\ndefault_mode = 3", e)
	assert.Equal(t, "READY=1\nSTATUS="+rejected+"p.toml:1:1: unknown key colour (and 2 more)", <-told)
	assert.Empty(t, e.got)
	require.Len(t, e.told, 1)
	assert.Regexp(t, `^`+rejected+`.*p.toml:1:1: unknown key colour \(and 2 more\)$`, e.told[0])
	assert.Equal(t, 3, logs.FilterMessage("policy rejected").Len(), "each finding is a line of the log")
}

func TestWhatTheEngineRefusesIsTold(t *testing.T) {
	bad := policy.BadPolicy{{File: "p.toml", Key: "paths.state", Text: "cannot change"}}
	told, logs := reloading(t, "", &reloads{err: bad})
	assert.Equal(t, "READY=1\nSTATUS="+rejected+"p.toml: paths.state: cannot change", <-told)
	assert.Equal(t, 1, logs.FilterMessage("policy rejected").Len())

	told, _ = reloading(t, "", &reloads{err: errors.New("the disk\nis full")})
	assert.Equal(t, "READY=1\nSTATUS=cannot reload the policy, previous policy still in force: the disk is full",
		<-told)
}

func TestAPolicyThatHasToWaitKeepsNobodyWaiting(t *testing.T) {
	e := &reloads{later: make(chan error)}
	told, _ := reloading(t, "", e)
	assert.Equal(t, "READY=1\nSTATUS=a new policy waits for the running transition to end", <-told)
	e.later <- nil
	assert.Equal(t, "STATUS=the policy of p.toml is in force", <-told)

	e = &reloads{later: make(chan error)}
	told, logs := reloading(t, "", e)
	assert.Contains(t, <-told, "waits")
	e.later <- daemon.ErrSuperseded
	assert.Empty(t, told, "the later one tells of itself")
	assert.Equal(t, 1, logs.Len())
}

func TestEveryHangupIsAReload(t *testing.T) {
	e := &reloads{}
	told := make(chan string)
	r := reloader{
		filepath.Join(t.TempDir(), "none"), e, zap.NewNop(),
		func(_ *zap.Logger, state string) { told <- state },
	}
	ctx, cancel := context.WithCancel(t.Context())
	hangups, ended := make(chan os.Signal), make(chan struct{})
	go func() { r.run(ctx, hangups); close(ended) }()
	for range 2 {
		hangups <- os.Interrupt
		assert.Contains(t, <-told, "RELOADING=1")
		assert.Contains(t, <-told, "READY=1")
	}
	cancel()
	<-ended
	assert.Len(t, e.got, 2)
}
