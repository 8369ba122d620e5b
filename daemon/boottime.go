package daemon

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// boottime is how long this boot lasts (CLOCK_BOOTTIME): it goes on while the
// machine sleeps, and nobody sets it. The deadlines of leases are on it, since they
// have to outlive a restart of the daemon, and its own monotonic times do not.
func boottime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Sprintf("the kernel has no CLOCK_BOOTTIME: %v", err)) // since Linux 2.6.39 it has
	}
	return time.Duration(now.Nano())
}

// drift is by how much a moment that was told may be off before it is told anew: it
// is reckoned again with every look, and everybody hears of each change.
const drift = 2 * time.Second

// moment is when the boot clock says at, by the wall clock of now; the moment that
// was told before, where that is still right.
func moment(told time.Time, at, now time.Duration) time.Time {
	wall := time.Now().Add(at - now).Round(0)
	if off := wall.Sub(told); off > -drift && off < drift {
		return told
	}
	return wall
}

// backoff is how long to wait after so many failures: first after one, then twice as
// long each time, most at most.
func backoff(first, most time.Duration, failures int) time.Duration {
	wait := first
	for range failures - 1 {
		if wait >= most {
			break
		}
		wait *= 2
	}
	return min(wait, most)
}

// earlier is the earlier of two moments of the boot clock, of which 0 is none.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
