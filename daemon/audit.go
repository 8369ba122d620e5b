package daemon

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
)

// noUser stands for senders who had gone before they could be asked for; it is no
// user's id (chown(2) has another use for it).
const noUser uint32 = math.MaxUint32

// How many refusals of one user get a line: so many at once, and one more each time
// that refusalEvery has passed.
const (
	refusalBurst = 20
	refusalEvery = 10 * time.Second
)

// refusals rations the lines that a user can cause without being allowed anything.
type refusals struct {
	mu    sync.Mutex
	users map[uint32]*allowance
}

type allowance struct {
	left      float64 // lines
	at        time.Time
	unwritten int
}

// take says whether a refusal gets a line, and how many of the same user have had
// none since the last.
func (r *refusals) take(uid uint32, now time.Time) (write bool, unwritten int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, a := range r.users {
		a.left = min(refusalBurst, a.left+max(0, now.Sub(a.at).Seconds())/refusalEvery.Seconds())
		a.at = now
		if a.left == refusalBurst && a.unwritten == 0 {
			delete(r.users, other)
		}
	}
	a := r.users[uid]
	if a == nil {
		a = &allowance{left: refusalBurst, at: now}
		r.users[uid] = a
	}
	if a.left < 1 {
		a.unwritten++
		return false, 0
	}
	unwritten, a.unwritten = a.unwritten, 0
	a.left--
	return true, unwritten
}

// Refused notes a request that was turned down before it came to the engine, or by
// it. It may be called from any goroutine.
func (e *Engine) Refused(r status.Refusal) { e.history.refused(r) }

// warnings says what is wrong with the daemon itself.
func (e *Engine) warnings() []observer.Reason {
	var warnings []observer.Reason
	if err := e.console.fault; err != nil {
		warnings = append(warnings, observer.Reason{Code: status.WarnConsole, Text: "the consoles do not show the way back: " + err.Error()})
	}
	if e.refused != "" {
		warnings = append(warnings, observer.Reason{Code: status.WarnPolicy, Text: e.refused})
	}
	waiting, lost, err := e.history.log.Fault()
	if err == nil {
		return warnings
	}
	text := err.Error()
	if waiting > 0 {
		text += fmt.Sprintf("; %d entries wait in memory", waiting)
	}
	if lost > 0 {
		text += fmt.Sprintf("; %d entries are lost", lost)
	}
	return append(warnings, observer.Reason{Code: status.WarnHistory, Text: text})
}

// historyRetry is how long what could not be written waits, if nothing else has to
// be written before.
const historyRetry = time.Minute

// awaitHistory has the loop try again while the history cannot be written.
func (e *Engine) awaitHistory() {
	if _, _, err := e.history.log.Fault(); err != nil {
		e.again.Reset(historyRetry)
	}
}
