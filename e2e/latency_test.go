//go:build e2e && soak

package e2e

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

// bareClient runs the program of that name in the machine, for one unit.
func (w *workstation) bareClient(unit string) {
	w.t.Helper()
	w.build("bareclient")
	p := w.Start(w.ctx, "exec bareclient "+unit)
	require.NoError(w.t, p.AwaitOutput(w.ctx, "listening"))
}

// began is a change of a unit that has left the state inactive, as its own signal
// tells it.
func began(s bed.Signal) bool {
	if s.Member != "PropertiesChanged" || len(s.Args) < 2 {
		return false
	}
	changed, _ := s.Args[1].(map[string]any)
	state, told := changed["ActiveState"].(string)
	return told && state != "inactive"
}

// TestARealChangeIsToldSoon: what the daemon adds to a real signal of systemd's is
// little beside what a bare client adds that hears the same one. The times are those
// at which one listener in the machine heard each.
func TestARealChangeIsToldSoon(t *testing.T) {
	w := onDesktop(t)
	w.becomes("desktop")
	const unit, rounds = "audio-priority.service", 20
	w.bareClient(unit)
	watch := w.Watch(w.ctx,
		"sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1/unit/audio_2dpriority_2eservice',member='PropertiesChanged'",
		"interface='org.dubnium.Mode1',member='StateChanged'",
		"interface='org.dubnium.Test',member='Changed'")
	// They come in either order, so that both are looked for among all that came since.
	after := func(from int, ok func(bed.Signal) bool) bed.Signal {
		for {
			seen := watch.Seen()[from:]
			if i := slices.IndexFunc(seen, ok); i >= 0 {
				return seen[i]
			}
			w.Await(w.ctx, watch, next)
		}
	}
	told := func(state string) func(bed.Signal) bool {
		return func(s bed.Signal) bool { return s.Member == "StateChanged" && s.Args[1] == state }
	}
	var daemon, bare []time.Duration
	for range rounds {
		from := len(watch.Seen())
		w.sh("systemctl start " + unit)
		changed := after(from, began)
		daemon = append(daemon, after(from, told("degraded-desktop")).Time.Sub(changed.Time))
		bare = append(bare, after(from, func(s bed.Signal) bool {
			return s.Member == "Changed" && s.Args[0] != "inactive"
		}).Time.Sub(changed.Time))
		from = len(watch.Seen())
		w.sh("systemctl stop " + unit)
		after(from, told("desktop"))
	}
	slices.Sort(daemon)
	slices.Sort(bare)
	ratio := float64(daemon[rounds/2]) / float64(bare[rounds/2])
	t.Logf("of %d changes half are told within %s, a bare client's within %s: %.1f times that; slowest %s and %s",
		rounds, daemon[rounds/2], bare[rounds/2], ratio, daemon[rounds-1], bare[rounds-1])
	// On a private bus it is twice that. Emulation stretches what computes, not what waits.
	require.Less(t, ratio, 10.0)
}
