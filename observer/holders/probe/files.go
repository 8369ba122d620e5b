package probe

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A scan opens a few files of every process. The functions below avoid the os package, which makes
// five more system calls for each file to prepare it for polling.

// list returns the names in a directory.
func list(path string) (names []string, err error) {
	dir, err := open(path, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	var buffer [4096]byte
	for {
		n, err := again(func() (int, error) { return unix.ReadDirent(dir, buffer[:]) })
		if err != nil {
			return nil, &os.PathError{Op: "readdir", Path: path, Err: err}
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}

// maxComm is more than the longest name of a process (15 bytes) or kernel thread (63).
const maxComm = 64

// command reads the name of a process.
func command(proc string, pid int) (string, error) {
	comm, err := read(filepath.Join(proc, strconv.Itoa(pid), "comm"), maxComm)
	return nameOf(comm), err
}

func nameOf(comm []byte) string {
	return strings.ToValidUTF8(strings.TrimSuffix(string(comm), "\n"), "?")
}

// read returns the beginning of a file, limit bytes of it at most.
func read(path string, limit int) ([]byte, error) {
	file, err := open(path, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(file)
	text := make([]byte, 0, min(limit, 4096))
	for len(text) < limit {
		text = slices.Grow(text, 1)
		n, err := again(func() (int, error) { return unix.Read(file, text[len(text):min(cap(text), limit)]) })
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			break
		}
		text = text[:len(text)+n]
	}
	return text, nil
}

func open(path string, flags int) (int, error) {
	file, err := again(func() (int, error) { return unix.Open(path, flags|unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return file, nil
}

// again repeats a system call that a signal has interrupted.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != unix.EINTR {
			return n, err
		}
	}
}
