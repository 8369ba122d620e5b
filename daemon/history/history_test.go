package history

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/message"
	"github.com/dubnium/dubnium/policy"
)

func testHistory(t *testing.T, stateDir string) *History {
	t.Helper()
	p := policy.Default()
	p.Paths.State = stateDir
	return Open(p, zap.NewNop())
}

func allRecords(t require.TestingT, h *History) []status.Record {
	records, _, err := h.Records(context.Background(), status.Filter{Limit: math.MaxInt})
	require.NoError(t, err)
	return records
}

// Older versions wrote a record and nothing else into a line.
func TestOldLinesAreRead(t *testing.T) {
	dir := t.TempDir()
	old := `{"id":1,"from":"desktop","to":"compute","final":"compute","result":"success","origin":"operator","by":"uid 0 (root)",` +
		`"started":"2026-01-01T00:00:00Z","finished":"2026-01-01T00:01:00Z","guards":null,"steps":null}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "events.jsonl"), []byte(old+"\n"), 0o600))
	h := testHistory(t, dir)
	id, err := h.LastID()
	require.NoError(t, err)
	assert.Equal(t, uint64(1), id)
	h.Ended(status.Record{ID: 2, To: policy.Desktop})
	records := allRecords(t, h)
	require.Len(t, records, 2)
	assert.Equal(t, []any{uint64(2), uint64(1), status.Success, (*uint32)(nil)},
		[]any{records[0].ID, records[1].ID, records[1].Result, records[1].UID})
	h.Ended(records[1])
	assert.Len(t, allRecords(t, h), 2, "what is there is not written twice")
}

func TestATornTailIsMendedAndSaid(t *testing.T) {
	dir := t.TempDir()
	testHistory(t, dir).Ended(status.Record{ID: 1, To: policy.Desktop})
	f, err := os.OpenFile(filepath.Join(dir, "events.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"event":"outcome","id":2,"fr`)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	core, said := observer.New(zapcore.InfoLevel)
	p := policy.Default()
	p.Paths.State = dir
	h := Open(p, zap.New(core))
	require.Equal(t, 1, said.FilterField(message.WithMessageID(message.HistoryCut)).Len())
	h.Ended(status.Record{ID: 3, To: policy.Desktop})
	records := allRecords(t, h)
	require.Len(t, records, 2)
	assert.Equal(t, []uint64{3, 1}, []uint64{records[0].ID, records[1].ID})
	text, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	require.NoError(t, err)
	assert.Regexp(t, `"event":"cut","time":"[^"]+","bytes":29}`, string(text))
}

// TestRefusalsAreRationed: a user who asks for nonsense all day does not push the
// outcomes out, others are written down meanwhile, and nothing goes uncounted.
func TestRefusalsAreRationed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := time.Unix(1_800_000_000, 0)
		now := begin
		r := newRefusals(func() time.Time { return now })
		asked, written := map[uint32]int{}, map[uint32]int{}
		counted := map[uint32]int{}
		for range rapid.IntRange(1, 300).Draw(t, "refusals") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
			uid := rapid.SampledFrom([]uint32{0, 1000}).Draw(t, "uid")
			asked[uid]++
			if write, unwritten := r.take(uid); write {
				written[uid]++
				counted[uid] += 1 + unwritten
			}
			bound := refusalRation.Burst + int(now.Sub(begin)/refusalRation.Every) + 1
			require.LessOrEqual(t, written[uid], bound)
		}
		for uid, n := range asked {
			require.GreaterOrEqual(t, written[uid], min(n, refusalRation.Burst))
			require.Equal(t, n, counted[uid]+r.unwritten[uid])
		}
	})
}

// TestRefusalsNeverDisplaceOutcomes: they have a file of their own, which is bounded.
func TestRefusalsNeverDisplaceOutcomes(t *testing.T) {
	dir := t.TempDir()
	h := testHistory(t, dir)
	now := time.Unix(1_800_000_000, 0)
	h.refusals = newRefusals(func() time.Time { return now })
	h.Ended(status.Record{ID: 1, To: policy.Compute, Result: status.Success})
	before, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	require.NoError(t, err)
	text := strings.Repeat("x", 1024)
	for range 5000 { // more than both files hold
		now = now.Add(time.Minute)
		h.Rejected(
			status.RejectedRequest{
				Asked: "request", Mode: "compute", By: "uid 1000", UID: 1000, Reason: "AccessDenied", Text: text, Why: text[:256],
			},
		)
	}
	after, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	require.NoError(t, err)
	require.Equal(t, string(before), string(after))
	var size int64
	files, err := filepath.Glob(filepath.Join(dir, "refusals.jsonl*"))
	require.NoError(t, err)
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		size += info.Size()
	}
	require.Greater(t, size, refusalLimits.MaxBytes)
	require.LessOrEqual(t, size, 2*refusalLimits.MaxBytes)
}

func TestFiltersChoose(t *testing.T) {
	h := testHistory(t, t.TempDir())
	begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	root, alice := uint32(0), uint32(1000)
	h.Ended(
		status.Record{ID: 1, To: policy.Compute, Result: status.Success, By: "uid 0 (root)", UID: &root, Finished: begin},
	)
	h.Ended(
		status.Record{
			ID: 2, To: policy.Desktop, Result: status.Blocked, By: "uid 1000 (alice)", UID: &alice,
			Finished: begin.Add(time.Hour),
		},
	)
	h.Ended(
		status.Record{
			ID: 3, To: policy.Compute, Result: status.Blocked, By: "uid 1000 (alice)", UID: &alice,
			Finished: begin.Add(2 * time.Hour),
		},
	)
	for name, c := range map[string]struct {
		filter status.Filter
		want   []uint64
	}{
		"all":         {status.Filter{}, []uint64{3, 2, 1}},
		"limit":       {status.Filter{Limit: 2}, []uint64{3, 2}},
		"since":       {status.Filter{Since: begin.Add(time.Hour)}, []uint64{3, 2}},
		"until":       {status.Filter{Until: begin.Add(time.Hour)}, []uint64{1}},
		"result":      {status.Filter{Result: status.Blocked}, []uint64{3, 2}},
		"mode":        {status.Filter{Mode: policy.Compute}, []uint64{3, 1}},
		"limit found": {status.Filter{Mode: policy.Compute, Until: begin.Add(time.Minute), Limit: 1}, []uint64{1}},
		"by name":     {status.Filter{By: "alice"}, []uint64{3, 2}},
		"by words":    {status.Filter{By: "uid 0 (root)"}, []uint64{1}},
		"no part":     {status.Filter{By: "lice"}, nil},
		"root's uid":  {status.Filter{UID: &root}, []uint64{1}},
		"id":          {status.Filter{ID: 2}, []uint64{2}},
		"both":        {status.Filter{Result: status.Blocked, Mode: policy.Desktop}, []uint64{2}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.filter.Limit == 0 {
				c.filter.Limit = 10
			}
			records, _, err := h.Records(t.Context(), c.filter)
			require.NoError(t, err)
			var got []uint64
			for _, r := range records {
				got = append(got, r.ID)
			}
			assert.Equal(t, c.want, got)
		})
	}
	_, err := h.Record(t.Context(), 4)
	require.ErrorIs(t, err, status.ErrNoSuchTransition)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = h.Records(canceled, status.Filter{Limit: 10})
	require.ErrorIs(t, err, context.Canceled)
}

// A reply has to fit on the bus.
func TestNobodyGetsMoreThanTheBusCarries(t *testing.T) {
	h := testHistory(t, t.TempDir())
	for id := range uint64(24) {
		h.Ended(status.Record{ID: id + 1, To: policy.Desktop, Why: strings.Repeat("x", 700_000)})
	}
	records := allRecords(t, h)
	assert.Len(t, records, maxFound/700_000)
	assert.Equal(t, uint64(24), records[0].ID)
}

// FuzzHistory: whatever is in the file, it is opened, read and gone on with.
func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"id":1,"to":"desktop"}` + "\n" + `{"event":"outcome","id":2}` + "\n" + `{"event":"step","id":2}` + "\n" + `{"torn`))
	f.Add([]byte("\n\n\x00\x00\xff\n{}\nnull\n[]\n" + `{"event":"outcome","id":-1}` + "\n"))
	f.Add([]byte(`{"event":"outcome","id":18446744073709551615}` + "\n"))
	f.Add([]byte(strings.Repeat("x", 200_000)))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "events.jsonl"), content, 0o600))
		h := testHistory(t, dir)
		before := allRecords(t, h)
		for _, r := range before {
			require.NotZero(t, r.ID)
		}
		_, err := h.LastID()
		require.NoError(t, err)
		h.add(outcomeLine{Event: lineOutcome, Record: status.Record{ID: 7, To: policy.Desktop, Why: "new"}}, true)
		after := allRecords(t, h)
		require.Len(t, after, len(before)+1)
		require.Equal(t, "new", after[0].Why)
		require.Equal(t, before, append([]status.Record(nil), after[1:]...))
	})
}
