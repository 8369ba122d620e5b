// Package eventlog keeps lines in a file that is only ever added to, and in a
// bounded number of older files beside it: NAME, NAME.1 (the newest), NAME.2, ...
//
// Failure semantics: what cannot be written waits in memory, bounded, and is
// written before whatever comes next; readers see it all the same. A line is on
// disk whole or not at all: what a crash or a full disk left of one is cut off
// before the next is written. A crash at any point of a rotation loses no line of
// a file that is kept.
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

// Limits bound what is kept.
type Limits struct {
	// MaxBytes is how large a file may grow.
	MaxBytes int64
	// Keep is how many older files stay beside it, at least 1.
	Keep int
}

// MaxLine bounds a line, in bytes with its end. A longer one is refused, and one
// that somebody else wrote is passed over.
const MaxLine = 1 << 20

// maxWaiting bounds the lines that wait in memory for a disk that takes them.
const maxWaiting = 4 << 20

// ErrTooLong: the line is longer than MaxLine and has not been kept.
var ErrTooLong = fmt.Errorf("a line of more than %d bytes", MaxLine)

// Log is the file. Its methods may be called from many goroutines.
type Log struct {
	path string
	// gap makes the line that stands for n lines that were lost.
	gap func(n int) []byte
	// hook is asked before each change on disk; an error of it is the change's.
	// It is for tests.
	hook func(what string) error

	mu      sync.Mutex
	limits  Limits
	waiting []line
	lost    int
	fault   error
}

// line is one that waits. An important one is on disk, synced, once it does not wait any more,
// and is the last to be given up.
type line struct {
	text      []byte
	important bool
}

// Open returns the log at path. cut is the number of bytes of a torn last line,
// which a crash in the middle of an append leaves, that were cut off. A file that
// cannot be looked at is a Fault and no reason to go without a log.
func Open(path string, limits Limits, gap func(lost int) []byte) (l *Log, cut int) {
	l = &Log{path: path, gap: gap, limits: limits}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return l, 0
	}
	if err == nil {
		_, cut, err = l.mend(f)
		err = errors.Join(err, f.Close())
	}
	l.fault = wrapped(err)
	return l, cut
}

// SetLimits changes what is kept from the next line on.
func (l *Log) SetLimits(limits Limits) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limits = limits
}

// Fault is what is wrong with the log: why the last line could not be written,
// how many lines wait because of that, and how many had to be given up since it
// was last well. err is nil when nothing is wrong.
func (l *Log) Fault() (waiting, lost int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting), l.lost, l.fault
}

// Append adds a line, without its end; an important one is on disk when the error
// is nil. What cannot be written waits for the next Append or Flush.
func (l *Log) Append(text []byte, important bool) error {
	if len(text) >= MaxLine {
		return fmt.Errorf("cannot keep %w", ErrTooLong)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, line{append(slices.Clone(text), '\n'), important})
	l.bound()
	return l.flush()
}

// Flush tries again to write what waits.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flush()
}

// bound gives up what there is no memory for: the oldest lines, and the important
// ones last.
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

// write puts one line at the end of the file, or nothing.
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
		// It would be written twice when it is tried again. What this cannot take
		// back, if it is no whole line, is cut off before the next one.
		return errors.Join(err, f.Truncate(size))
	}
	return nil
}

// open opens the file for the next line, at the end of a whole one.
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
	if fresh { // its name has to outlive a loss of power too
		err = atomicfile.SyncDir(filepath.Dir(l.path))
	}
	if err == nil {
		size, _, err = l.mend(f)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// mend cuts a last line off that is not whole, and returns the size after that.
func (l *Log) mend(f *os.File) (size int64, cut int, err error) {
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
		return 0, 0, fmt.Errorf("cannot cut a torn line off: %w", err)
	}
	return whole, int(size - whole), nil
}

// wholeLines is how many bytes of the file are whole lines.
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

// rotate makes room: each older file moves on by one, up to the first number that
// is free, or over the oldest. Wherever it is cut off, one number is free, and the
// next rotation goes on from there.
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

// dropSurplus removes what more was kept under other limits.
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
