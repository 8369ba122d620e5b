// Package journald writes the lines of a zap logger to the systemd journal with their
// fields, by which journalctl finds them: DUBNIUM_TRANSITION=7, MESSAGE_ID=...
//
// Failure semantics: a line that the journal does not accept is written to the plain core.
package journald

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/zapcore"

	"github.com/dubnium/dubnium/internal/message"
)

// Prefix begins the name of each field of ours.
const Prefix = "DUBNIUM_"

// New returns a core that sends to the journal if standard error is connected to it
// (JOURNAL_STREAM), and else plain. plain gets the lines that the journal does not accept.
// identifier is the SYSLOG_IDENTIFIER of the lines.
func New(plain zapcore.Core, identifier string) zapcore.Core {
	if connected, err := journal.StderrIsJournalStream(); err != nil || !connected {
		return plain
	}
	return newCore(plain, identifier, journal.Send)
}

type send func(text string, priority journal.Priority, fields map[string]string) error

type core struct {
	zapcore.Core // the plain one
	text         zapcore.Encoder
	fields       map[string]string
	send         send
}

func newCore(plain zapcore.Core, identifier string, to send) *core {
	text := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		MessageKey: "message", ConsoleSeparator: " ", SkipLineEnding: true,
		EncodeTime: zapcore.RFC3339TimeEncoder, EncodeDuration: zapcore.StringDurationEncoder,
	})
	return &core{plain, text, map[string]string{"SYSLOG_IDENTIFIER": identifier}, to}
}

// With implements zapcore.Core.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	text := c.text.Clone()
	for _, f := range fields {
		f.AddTo(text)
	}
	return &core{c.Core.With(fields), text, named(c.fields, fields), c.send}
}

// Check implements zapcore.Core.
func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	line, err := c.text.EncodeEntry(entry, fields)
	if err == nil {
		err = c.send(line.String(), priority(entry.Level), named(c.fields, fields))
		line.Free()
	}
	if err != nil {
		return c.Core.Write(entry, fields)
	}
	return nil
}

func priority(l zapcore.Level) journal.Priority {
	switch {
	case l >= zapcore.DPanicLevel:
		return journal.PriCrit
	case l == zapcore.ErrorLevel:
		return journal.PriErr
	case l == zapcore.WarnLevel:
		return journal.PriWarning
	case l == zapcore.InfoLevel:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// named adds fields under their names in the journal, which consist of capitals, digits
// and _ (systemd.journal-fields(7)).
func named(known map[string]string, fields []zapcore.Field) map[string]string {
	all := maps.Clone(known)
	values := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		if f.Key == message.Field {
			all["MESSAGE_ID"] = f.String
			continue
		}
		f.AddTo(values)
	}
	for key, value := range values.Fields {
		all[Name(key)] = text(value)
	}
	return all
}

// Name returns the name of a log field in the journal.
func Name(key string) string {
	return Prefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

func text(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case fmt.Stringer:
		return v.String()
	}
	if data, err := json.Marshal(value); err == nil {
		return string(data)
	}
	return fmt.Sprint(value)
}
