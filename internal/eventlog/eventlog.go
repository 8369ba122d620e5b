// Package eventlog appends lines to a file, and keeps a bounded number of older files
// beside it: NAME, NAME.1 (the newest), NAME.2, ...
//
// Failure semantics: lines that cannot be written are kept in memory, bounded, and are
// written before the next ones; readers get them as well. A line is on disk as a whole or
// not at all: the rest of one that a crash or a full disk interrupted is truncated before
// the next is written. A crash at any point of a rotation loses no line of a file that is
// kept.
package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dubnium/dubnium/internal/atomicfile"
	"github.com/dubnium/dubnium/internal/fault"
)

// Limits bound the files.
type Limits struct {
	// MaxBytes is the maximal size of a file, in bytes.
	MaxBytes int64
	// Keep is the number of older files, at least 1.
	Keep int
}

// MaxLine is the maximal length of a line, in bytes with its newline. A longer one is
// rejected by Append, and skipped by Backward.
const MaxLine = 1 << 20

// maxWaiting bounds the lines in memory that could not be written, in bytes.
const maxWaiting = 4 << 20

// ErrTooLong: the line is longer than MaxLine and was not appended.
var ErrTooLong = fmt.Errorf("a line of more than %d bytes", MaxLine)

// Log is the file. Its methods may be called from many goroutines.
type Log struct {
	path string
	// gap returns the line that replaces n lost lines.
	gap func(n int) []byte
	// hook, for tests, runs before each change on disk, which fails with its error.
	hook func(what string) error

	mu      sync.Mutex
	limits  Limits
	waiting []line
	lost    int
	fault   error
}

// line is a line that is not written yet. An important one is synced to disk, and is
// dropped last.
type line struct {
	text      []byte
	important bool
}

// Open returns the log at path. cut is the number of bytes of an incomplete last line,
// left by a crash during an append, that were truncated. A file that cannot be read is a
// Fault of the log, and does not keep it from being used.
func Open(path string, limits Limits, gap func(lost int) []byte) (l *Log, cut int) {
	l = &Log{path: path, gap: gap, limits: limits}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return l, 0
	}
	if err == nil {
		_, cut, err = l.truncate(f)
		err = errors.Join(err, f.Close())
	}
	l.fault = wrapped(err)
	return l, cut
}

// SetLimits sets the limits for the next lines.
func (l *Log) SetLimits(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
}

// Fault returns why the last line could not be written, how many lines wait because of
// that, and how many were dropped since the last success. err is nil without a fault.
func (l *Log) Fault() (waiting, lost int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting), l.lost, l.fault
}

// Append appends a line, given without its newline; an important one is on disk when the
// error is nil. A line that cannot be written waits for the next Append or Flush.
func (l *Log) Append(text []byte, important bool) error {
	if len(text) >= MaxLine {
		return fmt.Errorf("cannot append %w", ErrTooLong)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, line{append(slices.Clone(text), '\n'), important})
	l.bound()
	return l.flush()
}

// Flush retries to write the waiting lines.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

// bound drops lines beyond maxWaiting: the oldest first, and important ones last.
func (l *Log) bound() {
	total := 0
	for _, w := range l.waiting {
		total += len(w.text)
	}
	for total > maxWaiting {
		oldest := max(0, slices.IndexFunc(l.waiting, func(w line) bool { return !w.important }))
		total -= len(l.waiting[oldest].text)
		l.waiting = slices.Delete(l.waiting, oldest, oldest+1)
		l.lost++
	}
}

func (l *Log) flush() error {
	for len(l.waiting) > 0 {
		if err := l.write(l.waiting[0]); err != nil {
			l.fault = wrapped(err)
			return l.fault
		}
		l.waiting = l.waiting[1:]
	}
	l.waiting = nil
	if l.lost > 0 {
		if err := l.write(line{append(l.gap(l.lost), '\n'), true}); err != nil {
			l.fault = wrapped(err)
			return l.fault
		}
		l.lost = 0
	}
	l.fault = nil
	return nil
}

// write appends one line to the file, as a whole or not at all.
func (l *Log) write(w line) (err error) {
	f, size, err := l.open()
	if err == nil && size > 0 && size+int64(len(w.text)) > l.limits.MaxBytes {
		if err = errors.Join(f.Sync(), f.Close(), l.rotate()); err == nil {
			f, size, err = l.open()
		}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err = l.may("write"); err == nil {
		_, err = f.Write(w.text)
	}
	if err == nil && w.important {
		if err = l.may("sync"); err == nil {
			err = f.Sync()
		}
	}
	if err != nil {
		// A retry would write it twice. If this fails, an incomplete line is truncated
		// before the next one.
		return errors.Join(err, f.Truncate(size))
	}
	return nil
}

// open opens the file for the next line, and truncates an incomplete one.
func (l *Log) open() (f *os.File, size int64, err error) {
	if err := l.may("open"); err != nil {
		return nil, 0, err
	}
	_, err = os.Lstat(l.path)
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err = os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o640)
	if err != nil {
		return nil, 0, err
	}
	if fresh { // its name has to survive a loss of power too
		err = atomicfile.SyncDir(filepath.Dir(l.path))
	}
	if err == nil {
		size, _, err = l.truncate(f)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// truncate removes an incomplete last line. It returns the size after that, and the number
// of bytes removed.
func (l *Log) truncate(f *os.File) (size int64, cut int, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	size = info.Size()
	whole, err := wholeLines(f, size)
	if err != nil || whole == size {
		return size, 0, err
	}
	if err := l.may("cut"); err != nil {
		return 0, 0, err
	}
	if err := errors.Join(f.Truncate(whole), f.Sync()); err != nil {
		return 0, 0, fmt.Errorf("cannot truncate an incomplete line: %w", err)
	}
	return whole, int(size - whole), nil
}

// wholeLines returns the size of the complete lines of the file, in bytes.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	buffer := make([]byte, 4096)
	for end := size; end > 0; {
		start := max(0, end-int64(len(buffer)))
		part := buffer[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// rotate renames each older file to the next number, up to the first free number or over
// the oldest file. Wherever it is interrupted, one number is free, and the next rotation
// continues from there.
func (l *Log) rotate() error {
	free := 1
	for ; free < l.limits.Keep; free++ {
		if _, err := os.Lstat(l.old(free)); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	for i := free; i > 0; i-- {
		from := l.path
		if i > 1 {
			from = l.old(i - 1)
		}
		if err := l.may("rename"); err != nil {
			return err
		}
		if err := os.Rename(from, l.old(i)); err != nil {
			return fmt.Errorf("cannot rotate: %w", err)
		}
	}
	return errors.Join(l.dropSurplus(), atomicfile.SyncDir(filepath.Dir(l.path)))
}

// dropSurplus removes older files beyond the limit, which other limits have kept.
func (l *Log) dropSurplus() error {
	numbers, err := l.numbers()
	for _, n := range numbers {
		if n > l.limits.Keep {
			err = errors.Join(err, os.Remove(l.old(n)))
		}
	}
	return err
}

func (l *Log) old(n int) string { return l.path + "." + strconv.Itoa(n) }

// numbers lists the older files, the newest first.
func (l *Log) numbers() ([]int, error) {
	entries, err := os.ReadDir(filepath.Dir(l.path))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		suffix, ours := strings.CutPrefix(e.Name(), filepath.Base(l.path)+".")
		if n, err := strconv.Atoi(suffix); ours && err == nil && n > 0 && strconv.Itoa(n) == suffix {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// may runs the hook or the fault point before a change on disk.
func (l *Log) may(what string) error {
	if l.hook != nil {
		return l.hook(what)
	}
	return fault.At(context.Background(), l.path, what)
}

func wrapped(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot write the history: %w", err)
}
