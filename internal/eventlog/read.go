package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// Backward calls visit with each line, the latest first, without its newline, until it
// returns false. The line is valid only during the call. Memory is bounded by MaxLine,
// whatever the size of the files, and writers are not blocked meanwhile.
func (l *Log) Backward(visit func(text []byte) bool) error {
	waiting, files, err := l.snapshot()
	defer func() {
		for _, f := range files {
			_ = f.Close() // read only
		}
	}()
	if err != nil {
		return fmt.Errorf("cannot read the history: %w", err)
	}
	for _, w := range slices.Backward(waiting) {
		if !visit(bytes.TrimSuffix(w.text, []byte("\n"))) {
			return nil
		}
	}
	for _, f := range files {
		more, err := backward(f, visit)
		if err != nil {
			return fmt.Errorf("cannot read the history: %w", err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// source is a file with its size at a moment when no line was being written.
type source struct {
	*os.File
	size int64
}

// snapshot opens all files at one moment. A later rotation only renames them.
func (l *Log) snapshot() (waiting []line, files []source, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers, err := l.numbers()
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	paths := []string{l.path}
	for _, n := range numbers {
		paths = append(paths, l.old(n))
	}
	for _, path := range paths {
		f, openErr := os.Open(path)
		if errors.Is(openErr, fs.ErrNotExist) {
			continue
		}
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		info, statErr := f.Stat()
		if statErr != nil {
			err = errors.Join(err, statErr, f.Close())
			continue
		}
		files = append(files, source{f, info.Size()})
	}
	return slices.Clone(l.waiting), files, err
}

// chunk is the size of a read, in bytes.
const chunk = 64 << 10

// backward visits the lines of one file from its end. Bytes behind the last newline are
// no line; a line longer than MaxLine is skipped. more: visit wants further lines.
func backward(f source, visit func([]byte) bool) (more bool, err error) {
	var (
		buffer  = make([]byte, chunk)
		tail    []byte // the read part of a line whose beginning has not been read
		begun   bool   // a newline has been read
		tooLong bool
	)
	for end := f.size; end > 0; {
		start := max(0, end-chunk)
		part := buffer[:end-start]
		if _, err := f.ReadAt(part, start); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		for {
			i := bytes.LastIndexByte(part, '\n')
			if i < 0 {
				break
			}
			if begun && !tooLong && len(part)-i+len(tail) <= MaxLine &&
				!visit(append(part[i+1:len(part):len(part)], tail...)) {
				return false, nil
			}
			part, tail, begun, tooLong = part[:i], nil, true, false
		}
		if tooLong = tooLong || len(part)+len(tail) >= MaxLine; tooLong {
			tail = nil
		} else {
			tail = append(slices.Clone(part), tail...)
		}
		end = start
	}
	if begun && !tooLong {
		return visit(tail), nil
	}
	return true, nil
}
