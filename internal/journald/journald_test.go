package journald

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dubnium/dubnium/internal/message"
)

type sent struct {
	text     string
	priority journal.Priority
	fields   map[string]string
}

func logger(fail error) (log *zap.Logger, all *[]sent, plain *observer.ObservedLogs) {
	all = &[]sent{}
	fallback, plain := observer.New(zapcore.InfoLevel)
	return zap.New(newCore(fallback, "dubniumd", func(text string, p journal.Priority, fields map[string]string) error {
		*all = append(*all, sent{text, p, fields})
		return fail
	})), all, plain
}

func TestFieldsHaveTheirNames(t *testing.T) {
	log, all, plain := logger(nil)
	log.With(zap.String("mode", "compute")).Warn("a step failed", message.WithMessageID(message.StepFailed),
		zap.Uint64("transition", 7),
		zap.String("step", "isolate"), zap.Error(errors.New("two\nlines")), zap.Duration("after", time.Second),
		zap.Strings("why-not", []string{"a", "b"}))
	require.Len(t, *all, 1)
	assert.Equal(t, sent{
		`a step failed {"mode": "compute", "transition": 7, "step": "isolate", "error": "two\nlines", ` +
			`"after": "1s", "why-not": ["a", "b"]}`,
		journal.PriWarning,
		map[string]string{
			"SYSLOG_IDENTIFIER": "dubniumd", "MESSAGE_ID": string(message.StepFailed), "DUBNIUM_MODE": "compute",
			"DUBNIUM_TRANSITION": "7",
			"DUBNIUM_STEP":       "isolate", "DUBNIUM_ERROR": "two\nlines", "DUBNIUM_AFTER": "1s",
			"DUBNIUM_WHY_NOT": `["a","b"]`,
		},
	}, (*all)[0])
	assert.Zero(t, plain.Len())
	log.Info("another")
	assert.Equal(
		t, []string{"SYSLOG_IDENTIFIER"}, slices.Collect(maps.Keys((*all)[1].fields)), "fields are those of their line",
	)
	log.Debug("not asked for")
	assert.Len(t, *all, 2)
}

func TestPriorities(t *testing.T) {
	for level, want := range map[zapcore.Level]journal.Priority{
		zapcore.DebugLevel: journal.PriDebug, zapcore.InfoLevel: journal.PriInfo, zapcore.WarnLevel: journal.PriWarning,
		zapcore.ErrorLevel: journal.PriErr, zap.DPanicLevel: journal.PriCrit, zap.FatalLevel: journal.PriCrit,
	} {
		assert.Equal(t, want, priority(level), level)
	}
}

// A journal that is away, or has no room, costs the fields and not the line.
func TestWhatTheJournalDoesNotTakeIsSaidAllTheSame(t *testing.T) {
	log, _, plain := logger(errors.New("no journal"))
	log.With(zap.String("mode", "compute")).Error("it went wrong", zap.Int("n", 1))
	require.Equal(t, 1, plain.Len())
	line := plain.All()[0]
	assert.Equal(t, "it went wrong", line.Message)
	assert.Equal(t, map[string]any{"mode": "compute", "n": int64(1)}, line.ContextMap())
}

func TestWithoutAJournalNothingChanges(t *testing.T) {
	plain, _ := observer.New(zapcore.InfoLevel)
	t.Setenv("JOURNAL_STREAM", "")
	assert.Equal(t, plain, New(plain, "dubniumd"))
	t.Setenv("JOURNAL_STREAM", "1:1")
	assert.Equal(t, plain, New(plain, "dubniumd"), "it is another file's")
	t.Setenv("JOURNAL_STREAM", "nonsense")
	assert.Equal(t, plain, New(plain, "dubniumd"))
}
