package intent

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/observer"
)

// Idle is what looks have seen, all of them and close together: never longer than
// since the last request, nor than since anything was unknown or unseen.
func TestIdlenessIsNeverLongerThanWasSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const patience = 50 * time.Second
		var i Idleness
		start := time.Unix(1, 0)
		var last observer.Inference
		looked := time.Duration(0)
		now, busy := time.Hour, time.Hour // busy: the last moment that was not seen to be idle
		for range rapid.IntRange(1, 40).Draw(t, "looks") {
			step := time.Duration(rapid.IntRange(1, 80).Draw(t, "seconds")) * time.Second
			now += step
			latest := observer.Inference{Reading: observer.Reading{At: start.Add(now)}}
			switch rapid.SampledFrom([]string{"idle", "idle", "idle", "busy", "unknown", "half", "nobody"}).Draw(t, "what") {
			case "nobody": // looked
				latest = last
				if now-looked > patience {
					busy = now
				}
			case "idle":
				latest.Running, latest.Waiting = new(float64), new(float64)
				if now-looked > patience {
					busy = now
				}
			case "busy":
				one := 1.0
				latest.Running, latest.Waiting = new(float64), &one
				busy = now
			case "half":
				latest.Running = new(float64)
				busy = now
			case "unknown":
				latest.Reason = "no answer"
				busy = now
			}
			if latest != last {
				last, looked = latest, now
			}
			i = i.seen(now, patience, latest)
			if i.Since > 0 && i.Since < busy {
				t.Fatalf("idle since %s, but it was not at %s", i.Since, busy)
			}
			if same := i.seen(now, patience, latest); same != i {
				t.Fatalf("the same look counts twice: %+v, %+v", i, same)
			}
		}
	})
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "first"))
		most := first + time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "more"))
		before := time.Duration(0)
		for n := range 200 {
			d := Backoff(first, most, n)
			if d < before || d < first || d > most {
				t.Fatalf("after %d failures %s, before that %s; %s to %s", n, d, before, first, most)
			}
			before = d
		}
		if before != most {
			t.Fatalf("it ends at %s, not at %s", before, most)
		}
	})
}
