//go:build integration

package integration

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dubnium/dubnium/internal/rawbus"
)

// span is from when to when something took.
type span struct{ from, to time.Time }

func (s span) long() time.Duration { return s.to.Sub(s.from) }

// without is how long it took apart from the others, which do not overlap.
func (s span) without(others []span) time.Duration {
	rest := s.long()
	for _, o := range others {
		from, to := o.from, o.to
		if from.Before(s.from) {
			from = s.from
		}
		if to.After(s.to) {
			to = s.to
		}
		rest -= max(0, to.Sub(from))
	}
	return rest
}

// watchBus asks the bus itself for its id until ctx ends, one time after the other, and
// notes when it did not answer at once. A message of 30 MiB stops it, whoever it is for.
func (s *siege) watchBus(ctx context.Context) {
	const atOnce = 5 * time.Millisecond
	conn, err := rawbus.Dial(s.w.Address(), rawbus.Self)
	if err != nil {
		s.oddity("cannot watch the bus: %v", err)
		return
	}
	defer conn.Close()
	for ctx.Err() == nil {
		began := time.Now()
		if _, err := conn.Ask(rawbus.NewCall(rawbus.BusName, rawbus.BusPath, rawbus.BusName, "GetId")); err != nil {
			s.oddity("the bus does not answer: %v", err)
			return
		}
		if took := (span{began, time.Now()}); took.long() > atOnce {
			s.mu.Lock()
			s.stalls = append(s.stalls, took)
			s.mu.Unlock()
		}
		pause(ctx, 2*time.Millisecond)
	}
}

// apart is how long root waited for something, apart from when the bus did not answer.
func (s *siege) apart(what string) (took []time.Duration) {
	for _, t := range s.took[what] {
		took = append(took, t.without(s.stalls))
	}
	return took
}

func (s *siege) reportTimes() {
	s.t.Helper()
	var stalled time.Duration
	for _, stall := range s.stalls {
		stalled += stall.long()
	}
	s.t.Logf("the bus did not answer at once %d times, for %s in all", len(s.stalls), stalled.Round(time.Millisecond))
	for _, what := range slices.Sorted(maps.Keys(s.took)) {
		var all []time.Duration
		for _, t := range s.took[what] {
			all = append(all, t.long())
		}
		p50, p99, slowest := quantiles(all)
		_, apart, _ := quantiles(s.apart(what))
		s.t.Logf("%s: %d times, p50 %s, p99 %s, slowest %s; p99 %s apart from when the bus did not answer",
			what, len(all), p50, p99, slowest, apart)
	}
}
