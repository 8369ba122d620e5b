//go:build faultpoints

package fault

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatArmsAPoint(t *testing.T) {
	for text, want := range map[string]*arm{
		"":                                nil,
		"transition.json.save=die":        {point: "transition.json.save", how: "die", nth: 1},
		"transition.json.save:3=fail":     {point: "transition.json.save", how: "fail", nth: 3},
		"step.isolate-compute.apply=hang": {point: "step.isolate-compute.apply", how: "hang", nth: 1},
	} {
		got, err := parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"x", "x=", "=die", "x=explode", "x:0=die", "x:-1=die", "x:y=die"} {
		_, err := parse(text)
		assert.Error(t, err, text)
	}
}

func TestAnArmedPointFailsOnceAndHangsAsLongAsItMay(t *testing.T) {
	a, err := parse("file.save:2=fail")
	require.NoError(t, err)
	require.NoError(t, a.at(t.Context(), "file.save"))
	require.NoError(t, a.at(t.Context(), "file.rename"))
	require.ErrorIs(t, a.at(t.Context(), "file.save"), ErrInjected)
	require.NoError(t, a.at(t.Context(), "file.save"))

	a, err = parse("file.save=hang")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, a.at(ctx, "file.save"), context.DeadlineExceeded)
}

func TestAHandlerHasThePointsOfItsDirectory(t *testing.T) {
	broken := errors.New("broken")
	var met []string
	remove := Handle("/a/b", func(_ context.Context, point string) error {
		met = append(met, point)
		return broken
	})
	require.ErrorIs(t, At(t.Context(), "/a/b/c/transition.json", "save"), broken)
	require.NoError(t, At(t.Context(), "/a/transition.json", "save"))
	require.NoError(t, At(t.Context(), "org.example.Method", "call"))
	remove()
	require.NoError(t, At(t.Context(), "/a/b/c/transition.json", "save"))
	assert.Equal(t, []string{"transition.json.save"}, met)
}

// TestAProcessDies runs itself with a point armed.
func TestAProcessDies(t *testing.T) {
	if os.Getenv(Variable) != "" {
		_ = At(t.Context(), "/x/transition.json", "save")
		return
	}
	for text, died := range map[string]bool{"transition.json.save=die": true, "transition.json.save:2=die": false} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAProcessDies$")
		cmd.Env = append(os.Environ(), Variable+"="+text)
		out, err := cmd.CombinedOutput()
		if !died {
			require.NoError(t, err, string(out))
			continue
		}
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
		assert.Contains(t, string(out), "fault point transition.json.save, time 1: die")
	}
}
