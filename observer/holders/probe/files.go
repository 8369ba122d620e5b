package probe

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A look opens a few files of every process. The os package prepares each of its files
// for being waited for, which these never are, with five system calls more.

// list opens a directory and lists what is in it. The caller closes it.
func list(path string) (dir int, names []string, err error) {
	dir, err = open(path, unix.O_DIRECTORY)
	if err != nil {
		return -1, nil, err
	}
	var buffer [4096]byte
	for {
		n, err := again(func() (int, error) { return unix.ReadDirent(dir, buffer[:]) })
		if err != nil {
			unix.Close(dir)
			return -1, nil, &os.PathError{Op: "readdir", Path: path, Err: err}
		}
		if n == 0 {
			return dir, names, nil
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
}

// command is what a process calls itself, which is 15 bytes at most.
func command(proc string, pid int) (string, error) {
	path := filepath.Join(proc, strconv.Itoa(pid), "comm")
	file, err := open(path, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(file)
	var buffer [64]byte
	n, err := again(func() (int, error) { return unix.Read(file, buffer[:]) })
	if err != nil {
		return "", &os.PathError{Op: "read", Path: path, Err: err}
	}
	return strings.TrimSuffix(string(buffer[:n]), "\n"), nil
}

func open(path string, flags int) (int, error) {
	file, err := again(func() (int, error) { return unix.Open(path, flags|unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return file, nil
}

// again repeats what a signal has interrupted.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != unix.EINTR {
			return n, err
		}
	}
}
