package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// port is the virtio-serial port. It is read with plain blocking calls: while no host is connected (in a machine that
// is just being restored) read returns 0 at once and poll reports a hang-up, which Go's poller would take for the end.
type port struct {
	fd int

	mu  sync.Mutex // one frame is one write
	buf []byte
}

// openPort does not wait for udev's name: devtmpfs has the node as soon as the driver has the port.
func openPort() (*port, error) {
	const tries, pause = 500, 20 * time.Millisecond
	for range tries {
		if node, ok := findPort(); ok {
			fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, fmt.Errorf("cannot open the host's port %s: %w", node, err)
			}
			return &port{fd: fd}, nil
		}
		time.Sleep(pause)
	}
	return nil, fmt.Errorf("cannot find a virtio-serial port named %s", wire.PortName)
}

func findPort() (string, bool) {
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name") // the pattern is well-formed
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(b)) == wire.PortName {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(name))), true
		}
	}
	return "", false
}

// Read implements io.Reader. It returns only with data or an error.
func (p *port) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(p.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("cannot read from the host: %w", err)
		case n > 0:
			return n, nil
		default: // no host is connected
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// send writes a frame. The driver takes a frame in one piece.
func (p *port) send(f wire.Frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.buf, err = f.Append(p.buf[:0]); err != nil {
		return err
	}
	for rest := p.buf; len(rest) > 0; {
		n, err := unix.Write(p.fd, rest)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("cannot write to the host: %w", err)
		default:
			rest = rest[n:]
		}
	}
	return nil
}
