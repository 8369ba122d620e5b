package testhost

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/internal/vllmstandin"
)

// vllmUnits have the stand-in as their program: vllm.service and its profiles, as
// vllm-fast.service.
const vllmUnits = "vllm"

// reservePort binds a loopback port and does not listen on it: whoever connects
// is refused, nobody else gets it, and a listener with SO_REUSEPORT may share
// it. The option is set after the bind, which therefore finds a port of its own.
func reservePort() (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("cannot reserve a port: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	var address unix.Sockaddr
	if err == nil {
		address, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, 0, fmt.Errorf("cannot reserve a port: %w", err)
	}
	return fd, address.(*unix.SockaddrInet4).Port, nil
}

// listenShared listens on a reserved port.
func listenShared(port int) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if controlErr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
	return config.Listen(context.Background(), "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
}

func (h *Host) startVLLM() error {
	fd, port, err := reservePort()
	if err != nil {
		return err
	}
	opts := h.opts.VLLM
	opts.Listen = func() (net.Listener, error) { return listenShared(port) }
	h.vllm, h.vllmPort, h.vllmSocket, h.vllmRuns = vllmstandin.New(opts), port, fd, map[string]bool{}
	return nil
}

// vllmFollows starts and stops the server with its units. Called under the lock.
func (h *Host) vllmFollows(u sim.UnitStatus) {
	runs := u.ActiveState == "active" || u.ActiveState == "deactivating"
	if !strings.HasPrefix(u.Name, vllmUnits) {
		return
	}
	ran := len(h.vllmRuns) > 0
	if delete(h.vllmRuns, u.Name); runs {
		h.vllmRuns[u.Name] = true
	}
	if runs = len(h.vllmRuns) > 0; runs == ran {
		return
	}
	if !runs {
		h.vllm.Stop()
		return
	}
	if err := h.vllm.Start(); err != nil {
		h.broken(err)
	}
}

// VLLM is the server behind vllm.service: settable load, health and faults.
func (h *Host) VLLM() *vllmstandin.Server { return h.vllm }

// VLLMURL is where it serves while the unit is active; it never changes.
func (h *Host) VLLMURL() string { return fmt.Sprintf("http://127.0.0.1:%d", h.vllmPort) }
