// Package errtext words errors for people.
package errtext

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"syscall"
)

// Of returns what an error says, without the phrases of Go's libraries ("dial unix",
// "context deadline exceeded"): the path or address and the text of the operating
// system. An error that is none of these keeps its own text; nil has none.
func Of(err error) string {
	var network *net.OpError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	case errors.Is(err, exec.ErrNotFound):
		return "no such command"
	}
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return at(path.Path, path.Err)
	}
	if errors.As(err, &network) && network.Addr != nil {
		return at(network.Addr.String(), network.Err)
	}
	return system(err)
}

func at(place string, err error) string { return place + ": " + system(err) }

// system is the text of the system call's error in err, else that of err.
func system(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
