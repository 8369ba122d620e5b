package daemon

import (
	"fmt"
	"sync"
	"time"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/ration"
	"github.com/dubnium/dubnium/observer"
)

// refusalRation is how many refusals of one user get a line.
var refusalRation = ration.Ration{Burst: 20, Every: 10 * time.Second}

// refusals rations the lines that a user can cause without being allowed anything.
type refusals struct {
	rations *ration.Rations

	mu        sync.Mutex
	unwritten map[uint32]int
}

func newRefusals(now func() time.Time) *refusals {
	return &refusals{rations: ration.New(refusalRation, now), unwritten: map[uint32]int{}}
}

// take says whether a refusal gets a line, and how many of the same user have had
// none since the last.
func (r *refusals) take(uid uint32) (write bool, unwritten int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.rations.Take(uid) {
		r.unwritten[uid]++
		return false, 0
	}
	unwritten = r.unwritten[uid]
	delete(r.unwritten, uid)
	return true, unwritten
}

// Rejected notes a request that was turned down before it came to the engine, or by
// it. It may be called from any goroutine.
func (e *Controller) Rejected(r status.RejectedRequest) { e.history.refuse(r) }

// warnings says what is wrong with the daemon itself.
func (e *Controller) warnings() []observer.Reason {
	var warnings []observer.Reason
	if err := e.console.fault; err != nil {
		warnings = append(warnings, observer.Reason{Code: status.WarnConsole, Text: "the consoles do not show the way back: " + err.Error()})
	}
	if e.policyError != "" {
		warnings = append(warnings, observer.Reason{Code: status.WarnPolicy, Text: e.policyError})
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
func (e *Controller) awaitHistory() {
	if _, _, err := e.history.log.Fault(); err != nil {
		e.historyRetry.Reset(historyRetry)
	}
}
