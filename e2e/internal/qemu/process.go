package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is a running QEMU.
type Process struct {
	// Agent is the link to the agent in the guest. It ends with QEMU.
	Agent net.Conn

	monitor *monitor
	kill    func() error
	exited  chan struct{}
	err     error // why it ended; read it after exited is closed
}

// Start boots a machine.
func Start(ctx context.Context, h Hardware, b Boot) (*Process, error) {
	return start(ctx, args(h, b, b.words(), false))
}

// start runs QEMU with one end of two socket pairs, so that there are no sockets to find and none to wait for.
func start(ctx context.Context, arguments []string) (*Process, error) {
	agent, agentEnd, err := socketPair("agent")
	if err != nil {
		return nil, err
	}
	defer agentEnd.Close()
	qmp, qmpEnd, err := socketPair("qmp")
	if err != nil {
		agent.Close()
		return nil, err
	}
	defer qmpEnd.Close()

	cmd := exec.Command(Binary, arguments...)
	cmd.ExtraFiles = []*os.File{agentEnd, qmpEnd} // descriptors 3 and 4: agentFD, qmpFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{Agent: agent, exited: make(chan struct{})}
	if err := p.run(cmd); err != nil {
		agent.Close()
		qmp.Close()
		return nil, err
	}
	if p.monitor, err = newMonitor(ctx, qmp); err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, nil
}

// run starts the command and leaves a goroutine with a thread of its own behind: Pdeathsig means the thread that
// started the process, and Go would otherwise end idle threads as it likes.
func (p *Process) run(cmd *exec.Cmd) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer close(p.exited)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.err = fmt.Errorf("QEMU has ended (%v) %s", err, strings.TrimSpace(stderr.String()))
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("cannot start %s: %w", Binary, err)
	}
	p.kill = cmd.Process.Kill
	return nil
}

// Kill ends the process, if it has not ended already, and waits for its end.
func (p *Process) Kill() error {
	if err := p.kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot kill QEMU: %w", err)
	}
	<-p.exited
	return p.Agent.Close()
}

// Exited is closed when the process has ended; Err then tells how.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err tells how the process ended, nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
		return p.err
	default:
		return nil
	}
}

// socketPair returns a connection and the file of its other end.
func socketPair(name string) (net.Conn, *os.File, error) {
	fail := func(err error) (net.Conn, *os.File, error) {
		return nil, nil, fmt.Errorf("cannot make a socket pair for QEMU: %w", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return fail(err)
	}
	return conn, theirs, nil
}

// escape doubles commas, which QEMU's option syntax would split at.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
