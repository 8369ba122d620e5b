package daemon

import (
	"time"

	"github.com/dubnium/dubnium/observer"
)

// runTimers does what is due by the clock and not by a signal: leases end, and what was
// asked is asked for again. It is called after everything that the loop does, decides
// on what is known then, and sets the timer for the next time.
func (e *Controller) runTimers() {
	if e.ending || e.state.Observation.State == observer.Boot {
		return
	}
	now := e.now()
	again := e.checkLease(now)
	again = earlier(again, e.checkReconcile(now))
	if e.console.fault != nil {
		again = earlier(again, e.console.retryAt)
	}
	e.nextTimer.Stop()
	if again > 0 {
		// The timer stands still while the machine sleeps and the clock does not: when
		// it wakes, everything is looked at again, and we are here.
		e.nextTimer.Reset(max(again-now, time.Millisecond))
	}
}
