package render

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

const fingerprint = "0123456789abcdef0123456789abcdef"

func toCompute() status.Preview {
	return status.Preview{
		From: "desktop", To: policy.Compute, Fingerprint: fingerprint,
		Guards: []guards.Verdict{
			{Guard: policy.CheckTargetReachable, OK: true, Hard: true, Reason: "compute.target can be reached"},
		},
		Steps: []status.PlannedStep{
			{
				ID: "stop-display-manager", Kind: "stop-unit", Unit: "display-manager.service",
				Does: "stop display-manager.service", Undo: "start display-manager.service", Timeout: 90 * time.Second,
			},
			{
				ID: "end-sessions", Kind: "end-sessions", Does: "end 2 sessions: ask, and kill after 20s",
				Undo: "not reversible: the user has to log in again", Timeout: 30 * time.Second,
			},
			{
				ID: "check-gpu-display-released", Kind: "gate", Guard: policy.CheckGPUDisplayReleased,
				Does: "wait until check_gpu_display_released passes", Timeout: 30 * time.Second,
			},
			{
				ID: "set-slices", Kind: "a-newer-kind", Does: "give slices what compute has", Undo: "give them back what they had",
				Changes: []string{"CPUWeight of user.slice: 100 -> 20", "CPUWeight of ai.slice: 100 -> 500"}, Timeout: time.Second,
			},
			{
				ID: "isolate-compute", Kind: "isolate", Unit: "compute.target", Does: "isolate compute.target, which stops 3 units",
				Undo: "start again what was there before, except 1 unit without a file", Timeout: 2 * time.Minute,
			},
		},
		Sessions: []observer.Session{
			{ID: "2", UID: 1000, User: "alice", Class: "user", Type: "wayland", Seat: "seat0"},
			{ID: "7", UID: 1001, User: "bob", Class: "user", Type: "x11", Seat: "seat0"},
		},
		Stops: []unitgraph.StoppedUnit{
			{Unit: "backup.service", Cause: unitgraph.CausePropagated, By: "cups.service"},
			{Unit: "cups.service", Cause: unitgraph.CauseNotWanted, By: "compute.target"},
			{Unit: "greetd.service", Cause: unitgraph.CauseStep, By: "display-manager.service"},
			{Unit: "graphical.target", Cause: unitgraph.CauseConflict, By: "compute.target"},
			{Unit: "helper.service", Cause: unitgraph.CauseUnneeded, By: "cups.service"},
			{Unit: "newer.service", Cause: "weather", By: "rain.target"},
			{Unit: "run-u9.service", Transient: true, Cause: unitgraph.CauseNotWanted, By: "compute.target"},
		},
		Starts: []unitgraph.StartedUnit{{Unit: "compute.target"}, {Unit: "polkit.service"}},
		Holders: []observer.Holder{
			{GPU: "0000:01:00.0", PID: 900, Command: "Hyprland", Unit: "session-2.scope", Session: "2"},
			{GPU: "0000:01:00.0", UID: 1002, Redacted: true},
		},
		Unseen: []observer.Unseen{
			{Process: observer.Process{PID: 950, Command: "sync", UID: 1001, Session: "7"}, Truncated: 2},
			{Process: observer.Process{PID: 951, Command: "sync", UID: 1000, Session: "2"}},
			{Process: observer.Process{UID: 1002, Redacted: true}, Denied: true},
		},
		Expected: status.Expectation{Count: 3, Median: 41234 * time.Millisecond, Longest: 55 * time.Second},
	}
}

func hostilePlan() status.Preview {
	const evil = "\x1b[2J\"];\nevil -> \\N \\"
	p := toCompute()
	p.Steps[0].ID, p.Steps[0].Does, p.Steps[0].Undo = evil, evil, evil
	p.Sessions[0].ID, p.Sessions[0].User = evil, evil
	p.Stops[0].Unit, p.Stops[0].By = evil, evil
	p.Holders[0].Command, p.Holders[0].GPU = evil, evil
	p.Unseen[0].Command, p.Unseen[0].Session = evil, evil
	p.Guards[0].Reason, p.Fingerprint, p.From = evil, evil, evil
	return p
}

func previews() map[string]status.Preview {
	blocked := toCompute()
	blocked.Guards = []guards.Verdict{masked, passed, unjudged}
	blocked.Expected = status.Expectation{}
	unknown := toCompute()
	unknown.UnitsReason, unknown.Stops, unknown.Starts = "the units could not be read: no answer", nil, nil
	refused := toCompute()
	refused.Refused, refused.Stops, refused.Starts = "compute.target may not be isolated (AllowIsolate=)", nil, nil
	light := status.Preview{
		From: "desktop", To: policy.StudioLocal, Fingerprint: fingerprint,
		Steps: []status.PlannedStep{
			{
				ID: "start-audio-priority", Kind: "start-unit", Unit: "audio-priority.service",
				Does: "start audio-priority.service", Undo: "stop audio-priority.service", Timeout: time.Minute,
			},
		},
		Starts:   []unitgraph.StartedUnit{{Unit: "audio-priority.service"}},
		Expected: status.Expectation{Count: 1, Median: 120 * time.Millisecond, Longest: 120 * time.Millisecond},
	}
	return map[string]status.Preview{
		"compute": toCompute(), "blocked": blocked, "units-unknown": unknown, "refused": refused,
		"light": light, "hostile": hostilePlan(), "reached": {
			From: "desktop", To: policy.Desktop, Reached: true, Fingerprint: fingerprint,
		},
	}
}

var open = &Windows{
	UID: 1000,
	List: []Window{
		{Title: "budget.ods - \x1b[2JCalc", Program: "soffice", Workspace: "3"},
		{Title: "~", Program: "foot", Workspace: "1"},
	},
}

func TestPlansReadAsTheyShould(t *testing.T) {
	for name, p := range previews() {
		golden(t, "plan-"+name, Plan(p, open))
		golden(t, "plan-"+name+".json", PlanJSON(p, open))
		golden(t, "plan-"+name+".dot", PlanDot(p))
	}
	require.Contains(
		t, Plan(toCompute(), &Windows{UID: 1000, Fault: "cannot ask sway: no\nsocket"}),
		"its windows are unknown: cannot ask sway: no?socket",
	)
	require.Contains(t, Plan(toCompute(), &Windows{UID: 1000}), "no windows")
	require.NotContains(t, Plan(toCompute(), &Windows{UID: 7, List: open.List}), "budget", "it is nobody's who goes")
	require.NotContains(t, Plan(toCompute(), nil), "window")
	twice := toCompute()
	twice.Sessions[1].UID = 1000
	require.Equal(t, 1, strings.Count(Plan(twice, open), "budget"))
	for _, text := range []string{Plan(hostilePlan(), open), PlanDot(hostilePlan())} {
		require.NotContains(t, text, "\x1b")
	}
}

// TestPlanListsAreNeverNull: scripts go through them.
func TestPlanListsAreNeverNull(t *testing.T) {
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(PlanJSON(status.Preview{Steps: []status.PlannedStep{{ID: "x"}}}, nil)), &got))
	for _, list := range []string{"guards", "sessions", "stops", "starts", "holders"} {
		assert.Equal(t, []any{}, got[list], list)
	}
	require.Equal(t, []any{}, got["steps"].([]any)[0].(map[string]any)["changes"])
	require.Nil(t, got["windows"])
	require.Equal(t, true, got["runs"])
}

// TestThePlanIsAGraph: by the grammar of the language, and by Graphviz where it is
// installed.
func TestThePlanIsAGraph(t *testing.T) {
	for name, p := range previews() {
		g, err := parseDot(PlanDot(p))
		require.NoError(t, err, name)
		require.Equal(t, len(p.Sessions)+len(p.Stops)+len(p.Holders)+len(p.Guards)+len(p.Steps)+2, len(g.nodes), name)
		for _, e := range g.edges {
			require.Contains(t, g.nodes, e[0], name)
			require.Contains(t, g.nodes, e[1], name)
		}
		require.True(t, g.leads("from", "to"), "%s: the way is drawn", name)
		if dot, err := exec.LookPath("dot"); err == nil {
			cmd := exec.Command(dot, "-Tcanon")
			cmd.Stdin = strings.NewReader(PlanDot(p))
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", name, out)
		}
	}
	g, err := parseDot(PlanDot(toCompute()))
	require.NoError(t, err)
	require.Contains(t, g.edges, [2]string{"step isolate-compute", "stop cups.service"})
	require.Contains(t, g.edges, [2]string{"step stop-display-manager", "stop greetd.service"})
	require.Contains(t, g.edges, [2]string{"step end-sessions", "session 7"})
	require.Contains(t, g.edges, [2]string{"step check-gpu-display-released", "holder 0000:01:00.0 0"})
}

// TestWhateverIsQuotedIsOneID: any text comes through the language as one line of
// what is printable of it, and nothing of it is taken for an escape.
func TestWhateverIsQuotedIsOneID(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("\\\"nNl\n ;>-")))).Draw(t, "text")
		g, err := parseDot("digraph x {\n" + quote(text) + ";\n}\n")
		require.NoError(t, err)
		require.Len(t, g.nodes, 1)
		for id := range g.nodes {
			var lines []string
			for line := range strings.SplitSeq(text, "\n") {
				lines = append(lines, clean(line))
			}
			require.Equal(t, strings.Join(lines, "\n"), escString(id))
		}
	})
}

func TestABrokenGraphIsNoGraph(t *testing.T) {
	for _, text := range []string{
		"", "digraph x {", "graph x { a -- b }", "digraph x { \"a -> b; }", "digraph x { a -> ; }", "digraph x { a [label] }",
		"digraph x { a b }x", "digraph x { a [label=\"b\" }", "digraph x { -> a }",
	} {
		_, err := parseDot(text)
		require.Error(t, err, text)
	}
}
