//go:build integration

package integration

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// object is a JSON object as a script sees it.
type object = map[string]any

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// lastRecord is the newest line of the history.
func lastRecord(t *testing.T, w *embedded.Workstation) object {
	t.Helper()
	a := modectl(t, w, "history", "--limit", "1", "--json")
	require.Zero(t, a.code)
	return decode[object](t, a.stdout)
}

// jsonLines reads a line of JSON each.
func jsonLines(t *testing.T, text string) (all []any) {
	t.Helper()
	for line := range strings.Lines(text) {
		all = append(all, decode[object](t, line))
	}
	return all
}

// kind is what a script may rely on of a value.
type kind func(any) bool

func aWord(v any) bool   { s, ok := v.(string); return ok && s != "" }
func aText(v any) bool   { _, ok := v.(string); return ok }
func aNumber(v any) bool { _, ok := v.(float64); return ok }
func aBool(v any) bool   { _, ok := v.(bool); return ok }
func aList(v any) bool   { _, ok := v.([]any); return ok }
func anObject(v any) bool {
	_, ok := v.(object)
	return ok
}
func isNull(v any) bool { return v == nil }
func aTime(v any) bool {
	s, ok := v.(string)
	at, err := time.Parse(time.RFC3339Nano, s)
	return ok && err == nil && at.Location() == time.UTC && time.Since(at) < time.Hour
}

var (
	observedShape = map[string]kind{
		"observed_state": aWord, "confidence": aWord, "degraded": aBool, "signals": anObject, "unknown": anObject,
		"conflicts": aList, "reasons": aList, "since": aTime, "timestamp": aTime,
	}
	desiredShape = map[string]kind{"mode": aWord, "origin": aWord, "by": aWord, "since": aTime}
	recordShape  = map[string]kind{
		"id": aNumber, "from": aWord, "to": aWord, "final": aWord, "result": aWord, "origin": aWord, "by": aWord,
		"started": aTime, "finished": aTime, "guards": aList, "steps": aList, "authorization": aWord, "uid": aNumber,
	}
	stepShape    = map[string]kind{"id": aWord, "status": aWord, "started": aTime, "finished": aTime}
	verdictShape = map[string]kind{"guard": aWord, "ok": aBool, "code": aNumber, "hard": aBool, "reason": aText}
	statusShape  = map[string]kind{
		"version": aWord, "modes": aList, "desired": anObject, "observed": anObject, "converged": aBool,
		"transition": isNull, "last_transition": anObject, "blocked_by": aList, "inhibitors": aList, "warnings": aList,
		"placement": anObject, "topology": anObject, "lease": isNull, "auto_reconcile": anObject,
	}
)

func requireShape(t *testing.T, shape map[string]kind, v any) {
	t.Helper()
	require.IsType(t, object{}, v)
	for key, is := range shape {
		assert.True(t, is(v.(object)[key]), "%s is %v", key, v.(object)[key])
	}
}

// requireShapes looks at every element of a list, which must have some.
func requireShapes(t *testing.T, shape map[string]kind, list any) {
	t.Helper()
	require.NotEmpty(t, list)
	for _, v := range list.([]any) {
		requireShape(t, shape, v)
	}
}

func TestTheJSONIsWhatScriptsWereTold(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)

	finished := modectl(t, w, "request", "compute", "--json", "--reason", "nightly batch")
	require.Zero(t, finished.code)
	record := decode[object](t, finished.stdout)
	requireShape(t, recordShape, record)
	require.True(t, aTime(record["judged"]))
	requireShapes(t, stepShape, record["steps"])
	requireShapes(t, verdictShape, record["guards"])
	require.Equal(t, "success", record["result"])
	require.Equal(t, "nightly batch", record["why"])
	requireHost(t, w, policy.Compute)

	require.NoError(t, w.Mask("desktop.target"))
	refused := modectl(t, w, "request", "desktop", "--json")
	require.Equal(t, 18, refused.code)
	requireShape(t, recordShape, decode[object](t, refused.stdout))

	status := decode[object](t, modectl(t, w, "status", "--json").stdout)
	requireShape(t, statusShape, status)
	requireShape(t, desiredShape, status["desired"])
	requireShape(t, observedShape, status["observed"])
	requireShape(t, recordShape, status["last_transition"])
	requireShapes(t, verdictShape, status["blocked_by"])
	require.Equal(t, false, status["converged"], "desktop was asked for and compute is there")

	requireShape(t, observedShape, decode[object](t, modectl(t, w, "current", "--json").stdout))
	requireShape(t, desiredShape, decode[object](t, modectl(t, w, "desired", "--json").stdout))
	history := jsonLines(t, modectl(t, w, "history", "--json").stdout)
	require.Len(t, history, 2)
	requireShapes(t, recordShape, history)
	require.Equal(t, "blocked", history[0].(object)["result"], "the latest first")
	require.Equal(t, "success", history[1].(object)["result"])
}

func TestARequestThatDoesNotWaitNamesItsTransition(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c := watch(t, w)
	accepted := modectl(t, w, "request", "studio-local", "--no-wait", "--json")
	require.Zero(t, accepted.code)
	id := decode[object](t, accepted.stdout)["id"]
	p := c.settled(t)
	require.Equal(t, id, float64(p.View.Last.ID))
	requireHost(t, w, policy.StudioLocal)
}
