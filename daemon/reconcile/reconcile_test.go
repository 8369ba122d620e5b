package reconcile

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// However the host behaves: two attempts are a delay apart, and no cause is tried
// more often than policy has it, until all has been well for long.
func TestDecisionsKeepTheirBounds(t *testing.T) {
	p := policy.Reconcile{
		Enabled: true, Delay: policy.Duration(time.Minute), MaxDelay: policy.Duration(10 * time.Minute), Attempts: 3,
	}
	rapid.Check(t, func(t *rapid.T) {
		var r State
		now, lastAsk, wellSince := time.Hour, time.Duration(0), time.Duration(0)
		failures := map[string]int{}
		for range rapid.IntRange(1, 200).Draw(t, "turns") {
			now += time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second
			well := rapid.IntRange(0, 9).Draw(t, "well") < 2
			refused := rapid.IntRange(0, 9).Draw(t, "refused") < 2
			if well && wellSince == 0 {
				wellSince = now
			}
			if !well {
				wellSince = 0
			}
			if well && now-wellSince >= p.MaxDelay.D() {
				clear(failures)
			}
			next, ask, again := r.Decide(now, Inputs{p, well, func() string {
				if refused {
					return "no"
				}
				return ""
			}})
			r = next
			if again != 0 && again <= now {
				t.Fatalf("at %s it wants to be asked again at %s: that never ends", now, again)
			}
			if !ask {
				continue
			}
			if well || refused {
				t.Fatalf("asked although well %v, refused %v", well, refused)
			}
			if lastAsk > 0 && now-lastAsk < p.Delay.D() {
				t.Fatalf("asked at %s and again at %s", lastAsk, now)
			}
			lastAsk = now
			cause := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "cause")
			if failures[cause]++; failures[cause] > p.Attempts {
				t.Fatalf("%s was tried %d times", cause, failures[cause])
			}
			r = r.Ended(now, p, status.Record{Result: status.Failed, Steps: []status.Step{{ID: cause, Error: "it failed"}}})
		}
	})
}
