// Package zap is as much of go.uber.org/zap as this project writes logs with, over
// its core and its encoders. The root of that module serves levels over HTTP, and so
// brings net/http, TLS and X.509 into every program that imports it: a third of
// dubniumd, all of which the kernel keeps in memory for a daemon that has no network.
package zap

import (
	"fmt"
	"io"
	"time"

	"go.uber.org/zap/zapcore"
)

// Logger writes structured lines. Make one with New, Console or NewNop.
type Logger struct{ core zapcore.Core }

// Field is a key with its value.
type Field = zapcore.Field

// New returns a logger that writes to core.
func New(core zapcore.Core) *Logger { return &Logger{core} }

// NewNop returns a logger that says nothing.
func NewNop() *Logger { return New(zapcore.NewNopCore()) }

// Console returns a logger that writes lines for people to w, from level info on,
// without times: what they are written for, the journal, has its own.
func Console(w io.Writer) *Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		LevelKey: "level", MessageKey: "msg", LineEnding: zapcore.DefaultLineEnding,
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeTime: zapcore.EpochTimeEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	})
	return New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), zapcore.InfoLevel))
}

// With returns a logger whose lines have these fields too.
func (l *Logger) With(fields ...Field) *Logger { return New(l.core.With(fields)) }

// WrapCore returns a logger that writes to what wrap makes of this one's core.
func (l *Logger) WrapCore(wrap func(zapcore.Core) zapcore.Core) *Logger { return New(wrap(l.core)) }

// Debug is for whoever looks for a fault. What cannot be written, here as below, is
// lost: there is nobody left to tell.
func (l *Logger) Debug(msg string, fields ...Field) { l.write(zapcore.DebugLevel, msg, fields) }

// Info is for what an operator may want to know.
func (l *Logger) Info(msg string, fields ...Field) { l.write(zapcore.InfoLevel, msg, fields) }

// Warn is for what may explain a fault later.
func (l *Logger) Warn(msg string, fields ...Field) { l.write(zapcore.WarnLevel, msg, fields) }

// Error is for what should not be so.
func (l *Logger) Error(msg string, fields ...Field) { l.write(zapcore.ErrorLevel, msg, fields) }

func (l *Logger) write(level zapcore.Level, msg string, fields []Field) {
	if line := l.core.Check(zapcore.Entry{Level: level, Time: time.Now(), Message: msg}, nil); line != nil {
		line.Write(fields...)
	}
}

// String is a text.
func String(key, value string) Field {
	return Field{Key: key, Type: zapcore.StringType, String: value}
}

// ByteString is a text that is UTF-8 already.
func ByteString(key string, value []byte) Field {
	return Field{Key: key, Type: zapcore.ByteStringType, Interface: value}
}

// Stringer is what value says of itself.
func Stringer(key string, value fmt.Stringer) Field {
	return Field{Key: key, Type: zapcore.StringerType, Interface: value}
}

// Int is a number.
func Int(key string, value int) Field {
	return Field{Key: key, Type: zapcore.Int64Type, Integer: int64(value)}
}

// Bool is a truth.
func Bool(key string, value bool) Field {
	f := Field{Key: key, Type: zapcore.BoolType}
	if value {
		f.Integer = 1
	}
	return f
}

// Uint32 is a number.
func Uint32(key string, value uint32) Field {
	return Field{Key: key, Type: zapcore.Uint32Type, Integer: int64(value)}
}

// Uint64 is a number.
func Uint64(key string, value uint64) Field {
	return Field{Key: key, Type: zapcore.Uint64Type, Integer: int64(value)}
}

// Error is an error under the key "error"; nil is no field.
func Error(err error) Field {
	if err == nil {
		return Field{Type: zapcore.SkipType}
	}
	return Field{Key: "error", Type: zapcore.ErrorType, Interface: err}
}

// Any is a value in its JSON form; an error and a text are what they say.
func Any(key string, value any) Field {
	switch v := value.(type) {
	case error:
		return Field{Key: key, Type: zapcore.ErrorType, Interface: v}
	case string:
		return String(key, v)
	}
	return Field{Key: key, Type: zapcore.ReflectType, Interface: value}
}
