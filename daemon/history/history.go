// Package history keeps events.jsonl: what was requested, judged, done and reached, one
// JSON object a line, oldest first. It outlives the daemon and the boot.
//
// A line that cannot be written is a warning and never fails a transition. Only the
// journal of the running transition decides whether a step may be done.
package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/eventlog"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/policy"
)

// RetryAfter is how long lines that could not be written wait, unless another line is
// written before.
const RetryAfter = time.Minute

// History writes and reads the history. Make one with Open.
type History struct {
	log *eventlog.Log
	zap *zap.Logger
	// refused is refusals.jsonl. Everybody who can send a message causes lines in it, so
	// they must not displace outcomes.
	refused  *eventlog.Log
	refusals *refusals
	changed  chan struct{}

	mu     sync.Mutex // protects faulty
	faulty bool
}

// Open opens the history under the state directory of the policy. It cuts off a torn
// last line and records that. A history that cannot be read or written is a warning.
func Open(p policy.Policy, log *zap.Logger) *History {
	h := &History{zap: log, changed: make(chan struct{}, 1), refusals: newRefusals(time.Now)}
	gap := func(lost int) []byte {
		line, _ := json.Marshal(countLine{head: newHead(lineGap, 0), Lines: lost}) // plain data
		return line
	}
	var cut int
	h.log, cut = eventlog.Open(filepath.Join(p.Paths.State, "events.jsonl"), limits(p), gap)
	h.refused, _ = eventlog.Open(filepath.Join(p.Paths.State, "refusals.jsonl"), refusalLimits, gap)
	if cut > 0 {
		log.Warn("cut a torn line off the history", message.WithMessageID(message.HistoryCut), zap.Int("bytes", cut))
		h.add(countLine{head: newHead(lineCut, 0), Bytes: cut}, false)
	}
	return h
}

func limits(p policy.Policy) eventlog.Limits {
	return eventlog.Limits{MaxBytes: int64(p.Audit.MaxMiB) << 20, Keep: p.Audit.Keep}
}

// SetPolicy sets the limits of the files.
func (h *History) SetPolicy(p policy.Policy) { h.log.SetLimits(limits(p)) }

// Changed receives a value when Warning may have changed.
func (h *History) Changed() <-chan struct{} { return h.changed }

// Warning says what is wrong with the history, empty for nothing.
func (h *History) Warning() string {
	waiting, lost, err := h.log.Fault()
	if err == nil {
		return ""
	}
	text := err.Error()
	if waiting > 0 {
		text += fmt.Sprintf("; %d entries wait in memory", waiting)
	}
	if lost > 0 {
		text += fmt.Sprintf("; %d entries are lost", lost)
	}
	return text
}

// Retry writes the lines that wait, if there are any.
func (h *History) Retry() {
	if _, _, err := h.log.Fault(); err != nil {
		h.setWriteError(h.log.Flush())
	}
}

func newHead(event string, id uint64) head { return head{Event: event, Time: time.Now(), ID: id} }

// add appends a line. An important line is on disk when add returns, if possible.
func (h *History) add(line any, important bool) { h.setWriteError(appendTo(h.log, line, important)) }

func appendTo(log *eventlog.Log, line any, important bool) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	return log.Append(data, important)
}

// setWriteError logs only the changes between writable and not.
func (h *History) setWriteError(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if (err != nil) == h.faulty {
		return
	}
	h.faulty = err != nil
	if h.faulty {
		h.zap.Error("the history cannot be written; its lines wait in memory",
			message.WithMessageID(message.HistoryFault), zap.Error(err))
	} else {
		h.zap.Info("the history is written again", message.WithMessageID(message.HistoryWell))
	}
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// Started records that the daemon started.
func (h *History) Started(bootID string) {
	h.add(startLine{newHead(lineStart, 0), bootID}, true)
}

// Requested records an accepted request. The outcome syncs the line of a request that
// began a transition; one that joined has no outcome.
func (h *History) Requested(id uint64, r status.Request, joined bool) {
	h.add(requestLine{
		head: newHead(lineRequest, id), Mode: r.Mode, Origin: r.Origin, By: r.By, UID: &r.UID,
		Authorization: r.Authorization, Why: r.Why, Joined: joined, Terms: r.Terms,
	}, joined)
}

// Confirmed records that a mode was confirmed.
func (h *History) Confirmed(id uint64, mode policy.Mode, c status.Confirmation) {
	h.add(confirmedLine{
		head: newHead(lineConfirmed, 0), Transition: id, Mode: mode,
		By: c.By, UID: c.UID, Authorization: c.Authorization,
	}, true)
	h.zap.Info("a mode is confirmed", zap.Uint64("transition", id), zap.String("mode", string(mode)),
		zap.String("by", c.By), zap.Uint32("uid", c.UID), zap.String("authorization", c.Authorization))
}

// Judged records the verdicts of a transition's guards.
func (h *History) Judged(id uint64, verdicts []guards.Verdict) {
	for _, v := range verdicts {
		h.add(verdictLine{newHead(lineVerdict, id), v}, false)
	}
}

// Step records the status of a step. guard is the guard that a gate waits for.
func (h *History) Step(id uint64, index int, guard policy.GuardID, s status.Step) {
	line := stepLine{
		head: newHead(lineStep, id), Index: index, Step: s.ID, Guard: guard, Status: s.Status,
		Error: s.Error, Started: s.Started, Finished: s.Finished,
	}
	if s.Status.OfUndo() {
		line.Error, line.Started, line.Finished = s.UndoError, s.UndoStarted, s.UndoFinished
	}
	h.add(line, false)
}

// Ended records an outcome, unless it is there: the daemon may have died after it had
// written it and before it had cleared the journal.
func (h *History) Ended(r status.Record) {
	if there, _, err := h.scan(context.Background(), isRecord(r.ID), orPast(r.ID)); err == nil && len(there) > 0 {
		return
	}
	line := outcomeLine{lineOutcome, time.Now(), r}
	if data, err := json.Marshal(line); err == nil && len(data) >= eventlog.MaxLine {
		// Only the evidence has no bound of its own. The lines of the verdicts have it.
		line.Guards = slices.Clone(r.Guards)
		for i := range line.Guards {
			line.Guards[i].Evidence = nil
		}
	}
	h.add(line, true)
}

// maxFound bounds what one query returns, in bytes of lines. The reply on the bus takes
// several times that in memory.
const maxFound = 1 << 20

// scan returns the newest outcomes that are wanted, the latest first, until enough
// returns true. more: it ended at maxFound.
func (h *History) scan(
	ctx context.Context, wanted func(status.Record) bool, enough func(found int, latest status.Record) bool,
) (found []status.Record, more bool, _ error) {
	var size int
	err := h.log.Backward(func(line []byte) bool {
		r, ok := asOutcome(line)
		if ok && wanted(r) {
			if size += len(line); size > maxFound && len(found) > 0 {
				more = true
				return false
			}
			found = append(found, r)
		}
		return ctx.Err() == nil && !(ok && enough(len(found), r))
	})
	return found, more, errors.Join(err, ctx.Err())
}

// Records returns the newest transitions that match, the latest first, and whether
// there may be more.
func (h *History) Records(ctx context.Context, f status.Filter) (found []status.Record, more bool, _ error) {
	return h.scan(ctx, f.Match, func(found int, _ status.Record) bool {
		return found >= f.Limit || (f.ID != 0 && found > 0)
	})
}

func isRecord(id uint64) func(status.Record) bool {
	return func(r status.Record) bool { return r.ID == id }
}

// orPast ends a search for one id. Ids only increase, so the search need not read what
// is older.
func orPast(id uint64) func(int, status.Record) bool {
	return func(_ int, r status.Record) bool { return r.ID <= id }
}

// Record returns the record of an id. Errors: status.ErrNoSuchTransition.
func (h *History) Record(ctx context.Context, id uint64) (status.Record, error) {
	records, _, err := h.scan(ctx, isRecord(id), orPast(id))
	if err == nil && len(records) == 0 {
		err = fmt.Errorf("transition %d: %w", id, status.ErrNoSuchTransition)
	}
	if err != nil {
		return status.Record{}, err
	}
	return records[0], nil
}

// LastID returns the highest id that a transition was given, 0 for none. The line of a
// request is written before that of its outcome.
func (h *History) LastID() (id uint64, err error) {
	err = h.log.Backward(func(line []byte) bool {
		var any head
		if json.Unmarshal(line, &any) == nil {
			id = any.ID
		}
		return id == 0
	})
	return id, err
}
