package host_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/plans"
)

const manager = "user@1000.service"

func endManagers(grace time.Duration, users ...uint32) plans.Step {
	return plans.Step{Kind: plans.EndManagers, Grace: grace, Users: users}
}

// left is a host whose sessions have ended while something under alice's user manager
// has the display GPU.
func left(t *testing.T, opts testhost.Options) *handlers {
	t.Helper()
	h := newHandlers(t, opts)
	h.host.AddProcess(testhost.Process{
		UID: 1000, Comm: "Hyprland", Opens: []string{"card0", "renderD128"},
		Cgroup: "/user.slice/user-1000.slice/" + manager + "/session.slice/wayland-wm@hyprland.service",
	})
	quiet(t, h)
	require.NoError(t, h.apply(ends(time.Minute)))
	return h
}

func TestManagerEndsItself(t *testing.T) {
	h := left(t, testhost.Options{UserStopTakes: 200 * time.Millisecond})
	before := h.prepare(endManagers(time.Minute, 1000))
	require.JSONEq(t, `{"up":[1000]}`, string(before))
	notes, err := h.doing(endManagers(time.Minute, 1000))
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Equal(t, "inactive", h.state(manager))
}

func TestManagerStopped(t *testing.T) {
	h := left(t, testhost.Options{UserStopTakes: time.Hour})
	step := endManagers(50*time.Millisecond, 1000)
	before := h.prepare(step)
	require.ErrorContains(t, h.verify(step), "Hyprland (pid ")
	notes, err := h.doing(step)
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Regexp(t, `^Hyprland \(pid \d+, user@1000\.service/wayland-wm@hyprland\.service\) held `+card+
		` for 50ms after the session had ended, and user@1000\.service was stopped$`, notes[0])
	require.Equal(t, "inactive", h.state(manager))

	require.NoError(t, h.undo(step, before))
	require.Equal(t, "inactive", h.state(manager), "she is gone, and logind would never end it")
}

func TestManagerUndo(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	step := endManagers(0, 1000)
	before := h.prepare(step)
	require.NoError(t, h.apply(plans.Step{Kind: plans.StopUnit, Unit: manager}))
	require.NoError(t, h.undo(step, before))
	require.Equal(t, "active", h.state(manager))
	require.NoError(t, h.undo(step, before), "once more changes nothing")
	require.NoError(t, h.undo(step, nil), "Prepare has not finished")
}

// logind keeps the manager of a user who has a session over ssh too, and with it a
// PipeWire that has the GPU's HDMI output open.
func TestManagerRemoteSession(t *testing.T) {
	h := newHandlers(t, testhost.Options{})
	h.host.AddProcess(testhost.Process{
		UID: 1000, Comm: "pipewire", Opens: []string{"pcmC0D3p"},
		Cgroup: "/user.slice/user-1000.slice/" + manager + "/session.slice/pipewire.service",
	})
	ssh := h.host.AddSession(testhost.Session{Class: "user", Type: "tty", User: "alice", UID: 1000, Remote: true})
	quiet(t, h)
	require.NoError(t, h.apply(ends(time.Minute)))
	notes, err := h.doing(endManagers(50*time.Millisecond, 1000))
	require.NoError(t, err)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "pipewire (pid ")
	require.Equal(t, "inactive", h.state(manager))
	require.True(
		t,
		slices.ContainsFunc(h.host.Sessions(),
			func(s testhost.Session) bool { return s.ID == ssh && s.State == "active" }),
	)
}

func TestManagerOfOthers(t *testing.T) {
	h := left(t, testhost.Options{UserStopTakes: time.Hour})
	notes, err := h.doing(endManagers(50*time.Millisecond, 1001))
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Equal(t, "active", h.state(manager))
}
