package transition

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func begun() State {
	return Begin(
		status.Transition{ID: 7, From: "desktop", To: policy.Compute}, status.Request{Mode: policy.Compute}, false,
	)
}

// TestWhatEachPhaseAllows: the phase alone decides what clients may do.
func TestWhatEachPhaseAllows(t *testing.T) {
	announced := begun().Announce(now, time.Minute, 2*time.Minute)
	committed, barrier := announced.Recheck().Commit(now.Add(time.Hour), false, false)
	require.Equal(t, None, barrier)
	delay := status.Inhibitor{How: status.Delay}
	for name, c := range map[string]struct {
		state                           State
		word                            status.Phase
		cancel, postpone, delays, joins bool
		deadline                        time.Time
	}{
		"checking":   {begun(), status.PhaseObserving, true, false, true, true, time.Time{}},
		"preparing":  {begun().Progress(Preparing, 0, 3, "a"), status.PhaseActing, true, false, true, true, time.Time{}},
		"announced":  {announced, status.PhaseAnnounced, true, true, true, true, now.Add(time.Minute)},
		"rechecking": {announced.Recheck(), status.PhaseAnnounced, true, true, true, true, now.Add(time.Minute)},
		"committed":  {committed, status.PhaseActing, false, false, false, true, time.Time{}},
		"verifying": {
			committed.Progress(Verifying, 3, 3, ""), status.PhaseVerifying, false, false, false, true, time.Time{},
		},
		"undoing": {announced.Progress(Undoing, 0, 3, ""), status.PhaseUndoing, false, false, false, false, time.Time{}},
		"recovering": {
			Begin(status.Transition{ID: 7, To: policy.Compute}, status.Request{Mode: policy.Compute}, true),
			status.PhaseRecovering, false, false, false, false,
			time.Time{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			public := c.state.Public(now, false)
			assert.Equal(t, c.word, public.Phase)
			assert.Equal(t, c.cancel, public.Cancellable)
			assert.Equal(t, c.deadline, public.Deadline)
			assert.Equal(t, c.cancel, c.state.Cancel(7) == nil)
			_, err := c.state.Postpone(now, time.Second, time.Hour)
			assert.Equal(t, c.postpone, err == nil, "%v", err)
			assert.Equal(t, c.delays, c.state.Inhibit(now, delay) == nil)
			assert.Equal(t, c.joins, c.state.Joinable(status.Request{Mode: policy.Compute}))
			require.ErrorIs(t, c.state.Cancel(8), status.ErrNoSuchTransition)
		})
	}
	require.ErrorIs(t, (*State)(nil).Cancel(7), status.ErrNoSuchTransition)
}

func TestADelayInhibitorThatComesTooLateIsRefused(t *testing.T) {
	s := begun().Announce(now, 0, time.Minute)
	delay := status.Inhibitor{How: status.Delay, Mode: policy.Compute}
	require.NoError(t, s.Inhibit(now.Add(time.Minute-1), delay))
	require.ErrorIs(t, s.Inhibit(now.Add(time.Minute), delay), status.ErrBusy)
	delay.Mode = policy.Desktop
	require.NoError(t, s.Inhibit(now.Add(time.Minute), delay), "it is about another mode")
}

// TestNothingIsAcceptedAndIgnored: whatever is done in whatever order, a postponement
// never makes the wait shorter, and nothing commits before the time that was promised
// last, nor while an inhibitor blocks.
func TestNothingIsAcceptedAndIgnored(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := begun().Announce(now, time.Duration(rapid.IntRange(0, 90).Draw(t, "grace"))*time.Second, time.Minute)
		clock, promised, delayed := now, time.Time{}, false
		for range rapid.IntRange(1, 30).Draw(t, "events") {
			clock = clock.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			switch rapid.SampledFrom([]string{"postpone", "delay", "release", "wait", "commit"}).Draw(t, "event") {
			case "postpone":
				before := s.Deadline(clock, delayed)
				next, err := s.Postpone(clock, time.Duration(rapid.IntRange(1, 60).Draw(t, "d"))*time.Second, 2*time.Minute)
				if err != nil {
					require.Equal(t, s, next)
					break
				}
				s, promised = next, next.Deadline(clock, false)
				require.False(t, promised.Before(before) && !delayed, "%s, and before %s", promised, before)
				require.True(t, promised.After(clock))
			case "delay":
				if s.Inhibit(clock, status.Inhibitor{How: status.Delay}) == nil {
					delayed = true
					require.False(t, s.Deadline(clock, true).IsZero(), "it was accepted")
				}
			case "release":
				delayed = false
			case "wait":
				if s.Deadline(clock, delayed).IsZero() {
					s = s.Recheck()
				}
			case "commit":
				if s.Phase() != Rechecking {
					break
				}
				blocked := rapid.Bool().Draw(t, "blocked")
				next, barrier := s.Commit(clock, delayed, blocked)
				if barrier == None {
					require.False(t, blocked)
					require.False(t, clock.Before(promised), "it was postponed to %s", promised)
					require.True(t, s.Deadline(clock, delayed).IsZero())
					require.False(t, next.Cancellable())
					return
				}
				require.True(t, next.Cancellable())
				s = next
			}
		}
	})
}
