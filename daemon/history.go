package daemon

import (
	"bytes"
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

// history is events.jsonl: what was asked, judged, done and reached, a line of JSON
// each, oldest first. It outlives the daemon and the boot. What cannot be written
// is a warning, and never an error of a transition: the journal alone decides
// whether a step may be done.
type history struct {
	log *eventlog.Log
	zap *zap.Logger
	// refused is refusals.jsonl. Whoever may send a message can cause lines there, and so
	// must not push outcomes out.
	refused  *eventlog.Log
	rationed *refusals
	// changed is poked when warnings are others than before.
	changed chan struct{}

	mu     sync.Mutex // of what follows
	faulty bool
}

// The kinds of line. A line without a kind is an outcome that an older version
// wrote.
const (
	lineStart     = "start"     // the daemon started
	lineRequest   = "request"   // one was accepted
	lineRefused   = "refused"   // one was turned down
	lineConfirmed = "confirmed" // a mode may stay
	lineVerdict   = "verdict"   // of a guard
	lineStep      = "step"      // got further
	lineOutcome   = "outcome"   // of a transition
	lineCut       = "cut"       // a torn line was cut off
	lineGap       = "gap"       // lines were lost
)

// head begins every line.
type head struct {
	Event string    `json:"event"`
	Time  time.Time `json:"time"`
	ID    uint64    `json:"id,omitempty"` // the transition's
}

type startLine struct {
	head
	BootID string `json:"boot_id"`
}

// countLine is a lineCut or a lineGap.
type countLine struct {
	head
	Bytes int `json:"bytes,omitempty"`
	Lines int `json:"lines,omitempty"`
}

type requestLine struct {
	head
	Mode          policy.Mode   `json:"mode"`
	Origin        status.Origin `json:"origin"`
	By            string        `json:"by"`
	UID           *uint32       `json:"uid"`
	Authorization string        `json:"authorization"`
	Why           string        `json:"why,omitempty"`
	// Joined: the transition was running already, for somebody else.
	Joined bool `json:"joined,omitempty"`
	// Terms are how long it was asked for, in nanoseconds.
	Terms status.Terms `json:"terms,omitzero"`
}

// confirmedLine has no id of its own: ids only rise from line to line.
type confirmedLine struct {
	head
	Transition    uint64      `json:"transition"`
	Mode          policy.Mode `json:"mode"`
	By            string      `json:"by"`
	UID           uint32      `json:"uid"`
	Authorization string      `json:"authorization"`
}

type refusedLine struct {
	head
	Asked  string `json:"asked"`
	Mode   string `json:"mode"`
	By     string `json:"by"`
	UID    uint32 `json:"uid"`
	Reason string `json:"reason"`
	Text   string `json:"text"`
	Why    string `json:"why,omitempty"`
	// Unwritten counts the refusals of the same user since the last line of theirs
	// that have no line of their own.
	Unwritten int `json:"unwritten,omitempty"`
}

type verdictLine struct {
	head
	guards.Verdict
}

type stepLine struct {
	head
	Index int    `json:"index"`
	Step  string `json:"step"`
	// Guard is the one that a gate waits for.
	Guard    policy.GuardID    `json:"guard,omitempty"`
	Status   status.StepStatus `json:"status"`
	Error    string            `json:"error,omitempty"`
	Started  time.Time         `json:"started,omitzero"`
	Finished time.Time         `json:"finished,omitzero"`
}

// outcomeLine is a record with what makes it a line: older lines are records alone.
type outcomeLine struct {
	Event string    `json:"event"`
	Time  time.Time `json:"time"`
	status.Record
}

func limits(p policy.Policy) eventlog.Limits {
	return eventlog.Limits{MaxBytes: int64(p.Audit.MaxMiB) << 20, Keep: p.Audit.Keep}
}

// refusalLimits bound refusals.jsonl.
var refusalLimits = eventlog.Limits{MaxBytes: 1 << 20, Keep: 1}

// openHistory returns the history under the policy's state directory. A torn last
// line is cut off and said; one that cannot be read or written is a warning.
func openHistory(p policy.Policy, log *zap.Logger) *history {
	h := &history{zap: log, changed: make(chan struct{}, 1), rationed: newRefusals(time.Now)}
	gap := func(lost int) []byte {
		line, _ := json.Marshal(countLine{head: head{Event: lineGap, Time: time.Now()}, Lines: lost}) // plain data
		return line
	}
	var cut int
	h.log, cut = eventlog.Open(filepath.Join(p.Paths.State, "events.jsonl"), limits(p), gap)
	h.refused, _ = eventlog.Open(filepath.Join(p.Paths.State, "refusals.jsonl"), refusalLimits, gap)
	if cut > 0 {
		log.Warn("cut a torn line off the history", message.WithMessageID(message.HistoryCut), zap.Int("bytes", cut))
		h.add(countLine{head: head{Event: lineCut, Time: time.Now()}, Bytes: cut}, false)
	}
	return h
}

// add appends a line; an important one is on disk before add returns, if it can be.
func (h *history) add(line any, important bool) { h.setWriteError(appendTo(h.log, line, important)) }

func appendTo(log *eventlog.Log, line any, important bool) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	return log.Append(data, important)
}

// setWriteError tells of the first of many faults, and when they are over.
func (h *history) setWriteError(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && !h.faulty {
		h.zap.Error("the history cannot be written; it goes on, and what cannot be written waits", message.WithMessageID(message.HistoryFault), zap.Error(err))
	}
	if err == nil && h.faulty {
		h.zap.Info("the history is written again", message.WithMessageID(message.HistoryWell))
	}
	if was := h.faulty; was != (err != nil) {
		h.faulty = !was
		select {
		case h.changed <- struct{}{}:
		default:
		}
	}
}

// retry writes what waits, if anything does.
func (h *history) retry() {
	if _, _, err := h.log.Fault(); err != nil {
		h.setWriteError(h.log.Flush())
	}
}

func (h *history) started(bootID string) {
	h.add(startLine{head{Event: lineStart, Time: time.Now()}, bootID}, true)
}

// requested writes down that a request was accepted. One that joined has no outcome of
// its own to be synced with.
func (h *history) requested(id uint64, r status.Request, joined bool) {
	h.add(requestLine{
		head{lineRequest, time.Now(), id}, r.Mode, r.Origin, r.By, &r.UID, r.Authorization, r.Why, joined, r.Terms,
	}, joined)
}

func (h *history) accepted(id uint64, r status.Request, joined bool) {
	h.zap.Info("request accepted", message.WithMessageID(message.RequestAccepted), zap.Uint64("transition", id), zap.String("mode", string(r.Mode)),
		zap.String("by", r.By), zap.Uint32("uid", r.UID), zap.String("authorization", r.Authorization), zap.Bool("joined", joined))
}

func (h *history) confirmed(id uint64, mode policy.Mode, c status.Confirmation) {
	h.add(confirmedLine{head{Event: lineConfirmed, Time: time.Now()}, id, mode, c.By, c.UID, c.Authorization}, true)
	h.zap.Info("a mode is confirmed", zap.Uint64("transition", id), zap.String("mode", string(mode)),
		zap.String("by", c.By), zap.Uint32("uid", c.UID), zap.String("authorization", c.Authorization))
}

// refuse writes a refusal down, but of one user only so many: a log that is flooded
// drops what matters.
func (h *history) refuse(r status.RejectedRequest) {
	write, unwritten := h.rationed.take(r.UID)
	if !write {
		return
	}
	line := refusedLine{head{Event: lineRefused, Time: time.Now()}, r.Asked, r.Mode, r.By, r.UID, r.Reason, r.Text, r.Why, unwritten}
	if err := appendTo(h.refused, line, true); err != nil {
		h.zap.Error("a refusal cannot be written", message.WithMessageID(message.HistoryFault), zap.Error(err))
	}
	h.zap.Info("request refused", message.WithMessageID(message.RequestRefused), zap.String("asked", r.Asked), zap.String("mode", r.Mode), zap.String("by", r.By),
		zap.String("reason", r.Reason), zap.String("text", r.Text), zap.Int("unwritten", unwritten))
}

func (h *history) judged(id uint64, verdicts []guards.Verdict) {
	for _, v := range verdicts {
		h.add(verdictLine{head{lineVerdict, time.Now(), id}, v}, false)
	}
}

func (h *history) step(id uint64, index int, guard policy.GuardID, s status.Step) {
	line := stepLine{head{lineStep, time.Now(), id}, index, s.ID, guard, s.Status, s.Error, s.Started, s.Finished}
	if s.Status.OfUndo() {
		line.Error, line.Started, line.Finished = s.UndoError, s.UndoStarted, s.UndoFinished
	}
	h.add(line, false)
}

// ended writes an outcome down, unless it is there already: a crash may have come
// between that and the end of the journal.
func (h *history) ended(r status.Record) {
	if there, _, err := h.scan(context.Background(), isRecord(r.ID), orPast(r.ID)); err == nil && len(there) > 0 {
		return
	}
	line := outcomeLine{lineOutcome, time.Now(), r}
	if data, err := json.Marshal(line); err == nil && len(data) >= eventlog.MaxLine {
		// The evidence is what has no bound of its own; the verdicts' own lines have it.
		line.Guards = slices.Clone(r.Guards)
		for i := range line.Guards {
			line.Guards[i].Evidence = nil
		}
	}
	h.add(line, true)
}

// maxFound bounds what one who asks gets, in bytes of lines: what is made of them on the
// way to the bus takes many times that.
const maxFound = 1 << 20

// scan returns the newest outcomes that are wanted, the latest first, until enough
// says that there are. more: it ended at maxFound.
func (h *history) scan(
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

// asOutcome reads a line that is one. A line that is nothing at all is passed over:
// it may be of a newer version.
func asOutcome(line []byte) (r status.Record, ok bool) {
	const mark = `{"event":"`
	if bytes.HasPrefix(line, []byte(mark)) && !bytes.HasPrefix(line, []byte(mark+lineOutcome+`"`)) {
		return r, false // most lines are not worth more
	}
	var o outcomeLine
	if json.Unmarshal(line, &o) != nil || o.ID == 0 || (o.Event != "" && o.Event != lineOutcome) {
		return r, false
	}
	return o.Record, true
}

// records returns the newest transitions that the filter chooses, the latest first, and
// whether there may be more.
func (h *history) records(ctx context.Context, f status.Filter) (found []status.Record, more bool, _ error) {
	return h.scan(ctx, f.Match, func(found int, _ status.Record) bool { return found >= f.Limit || (f.ID != 0 && found > 0) })
}

func isRecord(id uint64) func(status.Record) bool {
	return func(r status.Record) bool { return r.ID == id }
}

// orPast ends a search for one id. Ids only ever rise, so that one which is not
// there is not looked for in all that is.
func orPast(id uint64) func(int, status.Record) bool {
	return func(_ int, r status.Record) bool { return r.ID <= id }
}

// record returns the newest record of that id.
func (h *history) record(ctx context.Context, id uint64) (status.Record, error) {
	records, _, err := h.scan(ctx, isRecord(id), orPast(id))
	if err == nil && len(records) == 0 {
		err = fmt.Errorf("transition %d: %w", id, status.ErrNoSuchTransition)
	}
	if err != nil {
		return status.Record{}, err
	}
	return records[0], nil
}

// lastID is the highest id that was given to a transition, 0 for none. A request
// has its line before its outcome.
func (h *history) lastID() (id uint64, err error) {
	err = h.log.Backward(func(line []byte) bool {
		var any head
		if json.Unmarshal(line, &any) == nil {
			id = any.ID
		}
		return id == 0
	})
	return id, err
}
