package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func ending(result status.Result, final observer.State, verdicts ...guards.Verdict) status.Record {
	return status.Record{
		ID: 7, From: "desktop", To: policy.Compute, Final: final, Result: result, Guards: verdicts, Finished: begin,
	}
}

func TestARequestThatIsReachedSaysSo(t *testing.T) {
	e := &engine{ends: ending(status.Success, "compute")}
	serve(t, e, authorizer{})
	r := modectl(t.Context(), "request", "compute", "--reason", "nightly batch")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Equal(t, "compute reached (transition 7)\n", r.stdout)
	require.Equal(t, "nightly batch", e.asked()[0].Why)
	require.Equal(t, policy.Compute, e.asked()[0].Mode)

	r = modectl(t.Context(), "request", "compute", "--json")
	var record status.Record
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &record))
	require.Equal(t, status.Success, record.Result)
}

func TestEveryResultHasItsExitCode(t *testing.T) {
	reachable := guards.Verdict{
		Guard: policy.CheckTargetReachable, Code: 18, Reason: "compute.target is masked",
		Remedy: "systemctl unmask compute.target",
	}
	unjudged := guards.Verdict{Guard: policy.CheckGPUDisplayReleased, Code: 21, Reason: "no answer"}
	passed := guards.Verdict{Guard: policy.CheckGraphicalSessionAbsent, OK: true}
	cases := map[string]struct {
		ends status.Record
		code int
		text string
	}{
		"success": {ending(status.Success, "compute"), 0, "compute reached"},
		"noop":    {ending(status.Noop, "compute"), 0, "nothing to do"},
		"blocked": {
			ending(status.Blocked, "desktop", passed, reachable, unjudged), 18, "remedy: systemctl unmask compute.target",
		},
		"not judged":        {ending(status.Blocked, "desktop", unjudged, reachable), 21, "unknown: no answer"},
		"blocked by nobody": {ending(status.Blocked, "desktop"), 51, "blocked"},
		"inhibited":         {ending(status.Inhibited, "desktop"), 13, "inhibited"},
		"canceled":          {ending(status.Canceled, "desktop"), 43, "canceled"},
		"degraded":          {ending(status.Degraded, "degraded-compute"), 50, "degraded"},
		"failed":            {ending(status.Failed, "failed-transition"), 51, "failed"},
		"timed out":         {ending(status.TimedOut, "failed-transition"), 52, "timed-out"},
		"rolled back":       {ending(status.RolledBack, "desktop"), 53, "rolled-back"},
		"rollback failed":   {ending(status.RollbackFailed, "failed-transition"), 54, "rollback-failed"},
		"interrupted":       {ending(status.Interrupted, "unknown"), 55, "interrupted"},
		"a newer result":    {ending("postponed", "desktop"), 51, "postponed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			serve(t, &engine{ends: c.ends}, authorizer{})
			r := modectl(t.Context(), "request", "compute")
			require.Equal(t, c.code, r.code)
			require.Contains(t, r.stdout, c.text)
			require.NotContains(t, r.stderr, "modectl:", "what was printed says why")
		})
	}
}

func TestRefusalsHaveTheirExitCodes(t *testing.T) {
	const action = "org.dubnium.mode1.request-compute"
	cases := map[string]struct {
		refuses error
		who     authorizer
		code    int
		text    string
	}{
		"not authorized": {
			nil,
			authorizer{1000, busapi.Refuse(busapi.ErrAccessDenied, "%s was not granted", action)},
			40,
			action + " was not granted; run it as root",
		},
		"needs a password": {
			nil,
			authorizer{1000, busapi.Refuse(busapi.ErrInteractionRequired, "%s needs authentication", action)},
			40,
			"needs authentication; run it as root",
		},
		"busy": {
			fmt.Errorf("transition 6 to desktop: %w", status.ErrBusy), authorizer{}, 42, "another transition is running; wait",
		},
		"shutting down": {status.ErrShuttingDown, authorizer{}, 41, "dubniumd is stopping"},
		"a defect": {
			fmt.Errorf("cannot write the journal: disk full"), authorizer{}, 51, "cannot write the journal: disk full",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			serve(t, &engine{refuses: c.refuses}, c.who)
			oneLine(t, modectl(t.Context(), "request", "compute"), c.code, c.text)
			oneLine(t, modectl(t.Context(), "request", "compute", "--no-wait", "--no-ask-password"), c.code, c.text)
		})
	}
	serve(t, &engine{}, authorizer{})
	oneLine(
		t, modectl(t.Context(), "request", "compute", "--reason", "\x1b[2J"), exitMisuse,
		"the option reason has unprintable characters",
	)
}

func TestNoWaitReturnsWithTheID(t *testing.T) {
	serve(t, &engine{hangs: true}, authorizer{})
	require.Equal(t, ran{exitOK, "accepted: transition 7\n", ""}, modectl(t.Context(), "request", "compute", "--no-wait"))
	require.JSONEq(t, `{"id": 7}`, modectl(t.Context(), "request", "compute", "--no-wait", "--json").stdout)
}

func TestAnInterruptedWaitSaysThatTheTransitionGoesOn(t *testing.T) {
	e := &engine{hangs: true}
	serve(t, e, authorizer{})
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan ran)
	go func() { done <- modectl(ctx, "request", "compute") }()
	require.Eventually(t, func() bool { return len(e.asked()) == 1 }, 10*time.Second, time.Millisecond)
	interrupt()
	oneLine(t, <-done, exitSignal, "stopped waiting")
}

func TestADaemonThatStopsMeanwhileLeavesTheOutcomeUnknown(t *testing.T) {
	e := &engine{hangs: true}
	serve(t, e, authorizer{})
	done := make(chan ran)
	go func() { done <- modectl(t.Context(), "request", "compute") }()
	require.Eventually(t, func() bool { return len(e.asked()) == 1 }, 10*time.Second, time.Millisecond)
	e.server.Stop(t.Context())
	r := <-done
	require.Equal(t, exitNotReachable, r.code)
	require.Contains(t, r.stderr, "modectl status")
}

func TestProgressIsALineForEachStepOrOneThatIsWrittenOver(t *testing.T) {
	events := []status.StepEvent{
		{Index: 0, Count: 2, Step: "stop-dm", Status: status.StepDoing},
		{Index: 0, Count: 2, Step: "stop-dm", Status: status.StepDone},
		{Index: 1, Count: 2, Step: "isolate", Status: status.StepFailed},
	}
	var lines, drawn bytes.Buffer
	for out, p := range map[*bytes.Buffer]*progress{&lines: {out: &lines}, &drawn: {out: &drawn, redraws: true}} {
		for _, e := range events {
			p.step(e)
		}
		p.end()
		require.NotEmpty(t, out.String())
	}
	require.Equal(t, "[1/2] stop-dm: doing\n[2/2] isolate: failed\n", lines.String())
	require.NotContains(t, drawn.String(), "\n")
	require.True(t, strings.HasSuffix(drawn.String(), "isolate: failed"+clearLine))
	var nothing bytes.Buffer
	(&progress{out: &nothing, redraws: true}).end()
	require.Empty(t, nothing.String())
}

func TestTheAgentIsReadyBeforeAndGoneAfter(t *testing.T) {
	dir := t.TempDir()
	agent, log := filepath.Join(dir, "agent"), filepath.Join(dir, "log")
	script := fmt.Sprintf(
		"#!/bin/sh\nexec >%s\necho \"$@\"\ntrap 'echo left; exit 0' TERM\nexec 3>&-\nwhile :; do sleep 0.01; done\n", log,
	)
	require.NoError(t, os.WriteFile(agent, []byte(script), 0o755))
	stop := startAgent(t.Context(), agent)
	started, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("--process %d --notify-fd 3 --fallback\n", os.Getpid()), string(started))
	stop()
	ended, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, string(started)+"left\n", string(ended))
}

func TestAnAgentThatIsNotThereIsNoFailure(t *testing.T) {
	startAgent(t.Context(), "/nonexistent/pkttyagent")()
	startAgent(t.Context(), "/bin/false")()
}

func TestForceNamesWhatItSkips(t *testing.T) {
	ends := ending(status.Success, "compute", guards.Verdict{Guard: policy.CheckCPULoadSafe, Code: 12, Reason: "load 99"})
	ends.Forced = []policy.GuardID{policy.CheckCPULoadSafe}
	e := &engine{ends: ends}
	serve(t, e, authorizer{})
	r := modectl(t.Context(), "force", "compute", "--skip", "check_cpu_load_safe")
	require.Zero(t, r.code, r.stderr)
	require.Equal(t, "compute reached (transition 7, forced past check_cpu_load_safe)\n", r.stdout)
	require.Equal(t, []policy.GuardID{policy.CheckCPULoadSafe}, e.asked()[0].Skip)
	for _, wrong := range [][]string{
		{"force", "compute"},
		{"force", "compute", "--skip", "check_audio_idle"},
		{"force", "sauna", "--skip", "check_cpu_load_safe"},
	} {
		require.Equal(t, exitMisuse, modectl(t.Context(), wrong...).code)
	}
	require.Len(t, e.asked(), 1)
}

// Misuse is misuse whether or not there is a daemon.
func TestWordsAreCheckedBeforeAnybodyIsAsked(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	for _, wrong := range [][]string{
		{"request", "compute", "--grace", "48h"},
		{"request", "compute", "--grace", "1500ms"},
		{"request", "compute", "--grace=-1s"},
		{"inhibit", "--why", "x", "--how", "nicely", "--", "true"},
		{"inhibit", "--why", "x", "--mode", "sauna", "--", "true"},
		{"inhibit", "--", "true"},
		{"inhibit", "--why", "x"},
		{"inhibit", "--list", "true"},
		{"postpone", "0s"},
		{"postpone", "5m", "seven"},
		{"cancel", "seven"},
	} {
		require.Equal(t, exitMisuse, modectl(t.Context(), wrong...).code, "%v", wrong)
	}
	require.Equal(t, exitNotReachable, modectl(t.Context(), "cancel").code)
}
