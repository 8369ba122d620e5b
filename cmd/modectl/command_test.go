package main

import (
	"encoding/json"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// oneLine checks that a failure printed one line, without text of Go's libraries.
func oneLine(t *testing.T, r ran, code int, text string) {
	t.Helper()
	require.Equal(t, code, r.code, r.stderr)
	require.Empty(t, r.stdout)
	require.True(t, strings.HasPrefix(r.stderr, "modectl: "), r.stderr)
	require.Equal(t, 1, strings.Count(r.stderr, "\n"), r.stderr)
	require.Contains(t, r.stderr, text)
	for _, foreign := range []string{"strconv.", "context deadline", "arg(s)", "dial unix", "time: invalid", "exec: "} {
		require.NotContains(t, r.stderr, foreign)
	}
}

func TestMisuseIsOneLineWhetherOrNotTheDaemonRuns(t *testing.T) {
	cases := map[string]struct {
		args string
		text string
	}{
		"unknown command":       {"stats", `unknown command "stats"`},
		"unknown flag":          {"--bogus", "unknown flag: --bogus"},
		"unknown flag of one":   {"request compute --force", "unknown flag: --force"},
		"unknown mode":          {"request sauna", `unknown mode "sauna": the modes are desktop, studio-local, compute`},
		"no mode":               {"request", "request needs one mode: desktop, studio-local, compute"},
		"two modes":             {"request desktop compute", "request needs one mode"},
		"an argument too many":  {"status now", `status accepts no argument, not even "now"`},
		"two explanations":      {"explain desktop compute", `explain accepts one argument, not also "compute"`},
		"not a number":          {"history --limit many", `--limit: "many" is not a whole number`},
		"not a time":            {"request compute --for long", `--for: "long" is not a time such as`},
		"help of nothing":       {"help nosuchcommand", `unknown command "nosuchcommand" of modectl`},
		"help of nothing below": {"help policy sauna", `unknown command "policy sauna" of modectl`},
		"nothing to run":        {"inhibit --why w", "inhibit needs a command"},
		"a flag without value":  {"request compute --reason", "flag needs an argument: --reason"},
		"no shell":              {"completion", "completion needs one shell"},
		"a shell nobody knows":  {"completion nosh", `unknown command "nosh"`},
		"explain nothing known": {"explain sauna", `unknown mode "sauna"`},
		"why not that":          {"explain --why-not sauna", `unknown mode "sauna"`},
		"two questions":         {"explain desktop --why-not compute", "exclude each other"},
		"guards of nothing":     {"guards", "guards needs one mode"},
		"guards of something":   {"guards sauna", `unknown mode "sauna"`},
		"no guard":              {"guard", "guard needs the name of one guard"},
		"a guard nobody knows":  {"guard check_weather", `unknown guard "check_weather"`},
		"a guard for no mode":   {"guard check_audio_idle --for sauna", `unknown mode "sauna"`},
		"record to nowhere":     {"record", "record needs one FILE"},
		"policy of nothing":     {"policy", "policy needs a command: check, show, diff or init"},
		"policy of something":   {"policy sauna", `unknown command "sauna"`},
		"check nothing":         {"policy check", "check needs one FILE"},
		"check what is not": {
			"policy check /nonexistent/file", "cannot read the policy /nonexistent/file: no such file or directory",
		},
		"another one's options": {"status --refresh", "unknown flag: --refresh"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			oneLine(t, modectl(t.Context(), strings.Fields(c.args)...), exitMisuse, c.text)
		})
	}
}

var everyCommand = []string{
	"status", "current", "current --refresh", "desired", "history", "history --follow", "show 7", "last-transition",
	"request compute", "request compute --no-wait", "explain", "guards compute", "guard check_audio_idle",
	"record /nonexistent/file", "policy show",
	"policy diff ../../docs/policy.example.toml", "policy init", "policy init --nix",
}

func TestNoBusSaysSo(t *testing.T) {
	for _, args := range everyCommand {
		oneLine(t, modectl(t.Context(), strings.Fields(args)...), exitNotReachable, "cannot reach the system bus: ")
	}
}

func TestADaemonThatDoesNotRunSaysHowToStartIt(t *testing.T) {
	bus := hosttest.Start(t, testhost.Options{})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus.Address())
	for _, args := range everyCommand {
		oneLine(
			t, modectl(t.Context(), strings.Fields(args)...), exitNotReachable,
			"dubniumd is not running; start it with: systemctl start dubniumd",
		)
	}
}

func TestReadsPrintForPeopleAndScripts(t *testing.T) {
	e := &engine{
		ends: status.Record{
			ID: 7, From: "compute", To: policy.Desktop, Final: "desktop", Result: status.Success, Finished: begin,
		},
	}
	e.kept = []status.Record{e.ends}
	serve(t, e, authorizer{})
	for args, want := range map[string]string{
		"current": "desktop\n", "desired": "desktop\n", "current --refresh": "desktop\n",
		"explain --why-not compute": "\n  the system manager must have finished starting, which is unknown\n",
		"explain desktop":           "desktop, confidence high",
		"status":                    "desktop, as desired\n",
		"history":                   "compute -> desktop",
		"--version":                 "modectl devel\n",
	} {
		r := modectl(t.Context(), strings.Fields(args)...)
		require.Equal(t, ran{exitOK, r.stdout, ""}, r)
		require.Contains(t, r.stdout, want)
	}
	require.Equal(t, 1, e.looked(), "only --refresh looks afresh")

	for args, want := range map[string]string{
		"current --json": `{"observed_state": "desktop",
			"signals": {"desktop_target_active": true, "vllm_active": null}}`,
		"--json current --refresh": `{"observed_state": "desktop", "timestamp": "2027-01-15T08:00:00Z"}`,
		"current --json --refresh": `{"evidence": {"redacted": false, "holders": {"holders": []}}}`,
		"explain --json compute":   `{"state": "desktop"}`,
		"desired --json":           `{"mode": "desktop", "origin": "boot"}`,
		"status --json": `{"version": "1.2.3", "converged": true, "transition": null, "last_transition": null,
			"blocked_by": []}`,
	} {
		r := modectl(t.Context(), strings.Fields(args)...)
		require.Equal(t, exitOK, r.code, r.stderr)
		var got, subset map[string]any
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &got), args)
		require.NoError(t, json.Unmarshal([]byte(want), &subset))
		contains(t, got, subset)
	}
}

// The properties are the same for everybody; status shows what the caller may read.
func TestStatusUsesTheWordsThatTheCallerMayRead(t *testing.T) {
	const theirs = "display GPU held by game (pid 7, game.service)"
	refusal := status.Record{
		ID: 3, From: "desktop", To: policy.Compute, Final: "desktop", Result: status.Blocked, Cause: theirs, Finished: begin,
		Guards: []guards.Verdict{
			{Guard: policy.CheckTargetReachable, OK: true},
			{Guard: policy.CheckGPUDisplayReleased, Code: 11, Reason: theirs},
		},
		Private: []observer.Secret{{UID: 1001, Text: "game (pid 7, game.service)", Instead: "a process of uid 1001"}},
	}
	for uid, told := range map[uint32]bool{0: true, 1001: true, 1000: false} {
		e := &engine{}
		serve(t, e, authorizer{uid: uid})
		e.mu.Lock()
		e.view.Last, e.view.BlockedBy = &refusal, guards.Blocking(refusal.Guards)
		e.mu.Unlock()
		for _, args := range []string{"status", "status --json"} {
			r := modectl(t.Context(), strings.Fields(args)...)
			require.Equal(t, exitOK, r.code, r.stderr)
			require.Contains(t, r.stdout, "check_gpu_display_released")
			require.NotContains(t, r.stdout, "check_target_reachable: ", "it does not block")
			require.Equal(t, told, strings.Contains(r.stdout, theirs), "%s for uid %d:\n%s", args, uid, r.stdout)
			require.Equal(t, !told, strings.Contains(r.stdout, "a process of uid 1001"), "%s for uid %d", args, uid)
		}
	}
}

// contains checks that got has everything that want has.
func contains(t *testing.T, got, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if inner, ok := value.(map[string]any); ok {
			contains(t, got[key].(map[string]any), inner)
			continue
		}
		require.Contains(t, got, key)
		require.Equal(t, value, got[key], key)
	}
}

// The help of every command fits a terminal of 80 columns.
func TestHelpFits80Columns(t *testing.T) {
	var check func(path []string, cmd *cobra.Command)
	check = func(path []string, cmd *cobra.Command) {
		r := modectl(t.Context(), append(slices.Clone(path), "--help")...)
		require.Equal(t, exitOK, r.code, path)
		for line := range strings.SplitSeq(r.stdout, "\n") {
			assert.LessOrEqual(t, len([]rune(strings.ReplaceAll(line, "\t", "        "))), 80, "%v: %s", path, line)
		}
		if len(path) > 0 {
			help := modectl(t.Context(), append([]string{"help"}, path...)...)
			assert.Equal(t, r.stdout, help.stdout, path)
		}
		for _, sub := range cmd.Commands() {
			check(append(slices.Clone(path), sub.Name()), sub)
		}
	}
	root := command(streams{stdout: io.Discard, stderr: io.Discard})
	require.Greater(t, len(root.Commands()), 15)
	check(nil, root)
}

func TestForceSuggestsAGuard(t *testing.T) {
	oneLine(t, modectl(t.Context(), "force", "compute", "--skip", "cpu_load_save"), exitMisuse,
		"guard cpu_load_save cannot be skipped; these can: ")
	r := modectl(t.Context(), "force", "compute", "--skip", "cpu_load_save")
	require.Contains(t, r.stderr, "(did you mean check_cpu_load_safe?)")
	r = modectl(t.Context(), "force", "compute", "--skip", "check_target_reachable")
	require.NotContains(t, r.stderr, "did you mean")
}

func TestCompletionKnowsTheModes(t *testing.T) {
	r := modectl(t.Context(), "__complete", "request", "")
	require.Contains(t, r.stdout, "desktop\nstudio-local\ncompute\n")
	require.Contains(t, modectl(t.Context(), "completion", "bash").stdout, "modectl")
}

func TestOnlyRootRecords(t *testing.T) {
	serve(t, &engine{}, authorizer{uid: 1000})
	file := filepath.Join(t.TempDir(), "recording")
	oneLine(t, modectl(t.Context(), "record", file), exitNotAuthorized, "recording needs root")
	require.NoFileExists(t, file)
}
