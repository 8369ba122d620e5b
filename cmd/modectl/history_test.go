package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/doctor"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func keptRecord(id uint64, result status.Result) status.Record {
	return status.Record{
		ID: id, From: "desktop", To: policy.Compute, Final: "desktop", Result: result, By: "uid 1000 (alice)", Started: begin,
		Finished: begin,
	}
}

func TestHistoryPassesItsFiltersOn(t *testing.T) {
	e := &engine{kept: []status.Record{keptRecord(7, status.Blocked), keptRecord(6, status.Success)}}
	serve(t, e, authorizer{})
	r := modectl(t.Context(), "history", "--result", "blocked", "--mode", "compute", "--by", "alice", "--limit", "3",
		"--since", "2026-11-22", "--until", "2026-11-22T12:00:00Z", "--json")
	require.Equal(t, exitOK, r.code, r.stderr)
	f := e.searched()[0]
	assert.True(t, f.Since.Equal(time.Date(2026, 11, 22, 0, 0, 0, 0, time.Local)))
	assert.True(t, f.Until.Equal(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)))
	f.Since, f.Until = time.Time{}, time.Time{}
	assert.Equal(t, status.Filter{Result: status.Blocked, Mode: policy.Compute, By: "alice", Limit: 3}, f)
	var ids []any
	for line := range strings.Lines(r.stdout) {
		var record map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &record))
		ids = append(ids, record["id"])
	}
	assert.Equal(t, []any{7.0, 6.0}, ids, "a line of JSON each")

	for args, says := range map[string]string{
		"--limit 0":        "--limit must be 1 to 1000, not 0",
		"--result sauna":   "the results are success, noop, blocked",
		"--mode sauna":     "the modes are",
		"--since whenever": `"whenever" is not a time`,
		"--until -3h":      `"-3h" is not a time`,
	} {
		oneLine(t, modectl(t.Context(), append([]string{"history"}, strings.Fields(args)...)...), exitMisuse, says)
	}
}

func TestTimesAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 11, 22, 14, 30, 0, 0, time.FixedZone("CET", 3600))
	for text, want := range map[string]time.Time{
		"":                          {},
		"2026-11-20":                time.Date(2026, 11, 20, 0, 0, 0, 0, now.Location()),
		"2026-11-20 08:15":          time.Date(2026, 11, 20, 8, 15, 0, 0, now.Location()),
		"2026-11-20 08:15:30":       time.Date(2026, 11, 20, 8, 15, 30, 0, now.Location()),
		"2026-11-20T08:15:30-02:00": time.Date(2026, 11, 20, 10, 15, 30, 0, time.UTC),
		"90m":                       now.Add(-90 * time.Minute),
		"3d":                        now.AddDate(0, 0, -3),
	} {
		got, err := parseTime(text, now)
		require.NoError(t, err, text)
		require.True(t, want.Equal(got), "%s is %s", text, got)
	}
}

// TestHistoryFollows: what there is, the latest last, then what comes, each once,
// until it is interrupted; and nobody is asked again and again.
func TestHistoryFollows(t *testing.T) {
	e := &engine{kept: []status.Record{keptRecord(6, status.Success), keptRecord(5, status.Success)}}
	serve(t, e, authorizer{})
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out, in := io.Pipe()
	ended := make(chan int)
	go func() {
		ended <- run(
			ctx, []string{"history", "--follow", "--json", "--result", "success"}, streams{stdout: in, stderr: io.Discard},
		)
	}()
	lines := json.NewDecoder(out)
	next := func() uint64 {
		var r status.Record
		require.NoError(t, lines.Decode(&r))
		return r.ID
	}
	assert.Equal(t, []uint64{5, 6}, []uint64{next(), next()})
	for _, record := range []status.Record{
		keptRecord(6, status.Success), keptRecord(7, status.Blocked), keptRecord(8, status.Success),
	} {
		e.mu.Lock()
		e.ends = record
		e.mu.Unlock()
		e.finish()
	}
	assert.Equal(t, uint64(8), next(), "6 was printed, and 7 is not asked for")
	interrupt()
	assert.Equal(t, exitOK, <-ended)
	assert.Len(t, e.searched(), 1)
}

func TestShowTellsOneTransition(t *testing.T) {
	e := &engine{kept: []status.Record{keptRecord(7, status.Blocked)}}
	serve(t, e, authorizer{})
	for _, args := range []string{"show 7", "last-transition"} {
		r := modectl(t.Context(), strings.Fields(args)...)
		require.Equal(t, exitOK, r.code, r.stderr)
		assert.Contains(t, r.stdout, "transition 7: desktop -> compute, blocked\n", args)
	}
	r := modectl(t.Context(), "show", "7", "--json")
	var record map[string]any
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &record))
	assert.Equal(t, "blocked", record["result"])

	e.mu.Lock()
	running, last := status.Transition{
		ID: 8, From: "desktop", To: policy.Compute, Phase: status.PhaseActing, By: "uid 0 (root)",
	}, keptRecord(9, status.Noop)
	e.view.Running, e.view.Last = &running, &last
	e.mu.Unlock()
	assert.Contains(t, modectl(t.Context(), "show", "8").stdout, "transition 8: desktop -> compute, requested by uid 0 (root)")
	assert.Contains(t, modectl(t.Context(), "last-transition").stdout, "transition 9", "that of this boot")
	oneLine(t, modectl(t.Context(), "show", "3"), exitMisuse, "no record of a transition 3 is kept")
	oneLine(t, modectl(t.Context(), "show", "x"), exitMisuse, `"x" is not the id of a transition`)
	oneLine(t, modectl(t.Context(), "show"), exitMisuse, "show needs the id of a transition")
}

// root reads with one command what it reads with the other.
func TestLastTransitionTellsWhatShowTells(t *testing.T) {
	e := &engine{}
	serve(t, e, authorizer{})
	last := keptRecord(9, status.Failed)
	last.Cause = "game holds a GPU"
	last.Private = []observer.Secret{{UID: 1000, Text: "game", Instead: "a process"}}
	e.mu.Lock()
	e.view.Last = &last
	e.mu.Unlock()
	told := modectl(t.Context(), "last-transition").stdout
	assert.Contains(t, told, "game holds a GPU")
	assert.Equal(t, modectl(t.Context(), "show", "9").stdout, told)
}

func TestThereMayBeNoLastTransition(t *testing.T) {
	serve(t, &engine{}, authorizer{})
	oneLine(t, modectl(t.Context(), "last-transition"), exitMisuse, "there is no transition yet")
}

func TestTheDoctorsExitCode(t *testing.T) {
	for want, f := range map[int]doctor.Facts{
		exitNotReachable: {Daemon: doctor.Daemon{Err: "dubniumd is not running"}},
		exitFailed:       {Daemon: doctor.Daemon{UID: 1000}},
	} {
		var out strings.Builder
		c := &commands{streams: streams{stdout: &out}}
		err := c.examine(t.Context(), func(context.Context) doctor.Facts { return f })
		var ended exit
		require.ErrorAs(t, err, &ended)
		assert.Equal(t, want, ended.code)
		assert.Contains(t, out.String(), "failures, ")
	}
}
