package history

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/eventlog"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/internal/ration"
)

// refusalRation bounds the lines that refusals of one user take.
var refusalRation = ration.Ration{Burst: 20, Every: 10 * time.Second}

// refusalLimits bound refusals.jsonl.
var refusalLimits = eventlog.Limits{MaxBytes: 1 << 20, Keep: 1}

// refusals rations the lines that a user without any right can cause.
type refusals struct {
	rations *ration.Rations

	mu        sync.Mutex
	unwritten map[uint32]int
}

func newRefusals(now func() time.Time) *refusals {
	return &refusals{rations: ration.New(refusalRation, now), unwritten: map[uint32]int{}}
}

// take reports whether a refusal gets a line, and how many refusals of the same user
// have had none since the line before.
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

// Rejected records a refused request. It may be called from any goroutine.
func (h *History) Rejected(r status.RejectedRequest) {
	write, unwritten := h.refusals.take(r.UID)
	if !write {
		return
	}
	line := refusedLine{
		head: newHead(lineRefused, 0), Asked: r.Asked, Mode: r.Mode, By: r.By, UID: r.UID,
		Reason: r.Reason, Text: r.Text, Why: r.Why, Unwritten: unwritten,
	}
	if err := appendTo(h.refused, line, true); err != nil {
		h.zap.Error("a refusal cannot be written", message.WithMessageID(message.HistoryFault), zap.Error(err))
	}
	h.zap.Info("request refused", message.WithMessageID(message.RequestRefused),
		zap.String("asked", r.Asked), zap.String("mode", r.Mode), zap.String("by", r.By),
		zap.String("reason", r.Reason), zap.String("text", r.Text), zap.Int("unwritten", unwritten))
}
