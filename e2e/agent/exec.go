package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// lingering is how long output is awaited from children that a program left behind with its pipes open.
const lingering = 300 * time.Millisecond

// exec runs a program to its end. Cancelling the stream kills the program's whole session.
func (st *stream) exec(ctx context.Context, req wire.Exec) (wire.Result, error) {
	cmd, release, err := command(ctx, req)
	if err != nil {
		return wire.Result{}, err
	}
	defer release()
	var tty *terminal
	if req.Terminal != nil {
		if tty, err = openTerminal(*req.Terminal); err != nil {
			return wire.Result{}, err
		}
		defer tty.close()
		tty.attach(cmd)
	} else {
		cmd.Stdout, cmd.Stderr = st.output(wire.Output), st.output(wire.ErrOutput)
	}
	var stdin io.WriteCloser
	if req.Stdin && tty == nil {
		if stdin, err = cmd.StdinPipe(); err != nil {
			return wire.Result{}, fmt.Errorf("cannot make a pipe for %s: %w", req.Argv[0], err)
		}
	}
	if err := cmd.Start(); err != nil {
		return wire.Result{}, fmt.Errorf("cannot start %s: %w", req.Argv[0], err)
	}
	if err := st.ready(cmd.Process.Pid); err != nil {
		return wire.Result{}, err
	}
	ended := make(chan struct{})
	defer close(ended)
	go st.obey(cmd.Process.Pid, tty, ended)
	if stdin != nil {
		go func() {
			_, _ = io.Copy(stdin, st.input) // a program may well stop reading before its input ends
			stdin.Close()
		}()
	}
	if tty != nil {
		return exitResult(tty.converse(st, cmd))
	}
	return exitResult(cmd.Wait())
}

// command prepares the program; release frees what only its start needs.
func command(ctx context.Context, req wire.Exec) (cmd *exec.Cmd, release func(), err error) {
	if len(req.Argv) == 0 {
		return nil, nil, errors.New("cannot run an empty command")
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	env, dir, release := rootEnv(), "/", func() {}
	if req.User != "" {
		u, err := lookup(req.User)
		if err != nil {
			return nil, nil, err
		}
		attr.Credential, env, dir = u.credential(), u.env(), u.home
		if req.InSession {
			session, err := u.session()
			if err != nil {
				return nil, nil, err
			}
			group, err := os.Open(session.cgroup())
			if err != nil {
				return nil, nil, fmt.Errorf("cannot enter %s's session: %w", req.User, err)
			}
			attr.UseCgroupFD, attr.CgroupFD = true, int(group.Fd())
			env = append(env, "XDG_SESSION_ID="+session.id, "XDG_SEAT="+session.seat, "XDG_SESSION_TYPE="+session.kind)
			release = func() { group.Close() }
		}
	}
	cmd = exec.CommandContext(ctx, req.Argv[0], req.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.SysProcAttr = append(env, req.Env...), dir, attr
	cmd.WaitDelay = lingering
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	return cmd, release, nil
}

// obey passes the host's signals and window sizes on until the program has ended.
func (st *stream) obey(pid int, tty *terminal, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case f := <-st.control:
			var size wire.Size
			switch {
			case f.Kind == wire.Signal && len(f.Body) == 1:
				_ = unix.Kill(-pid, unix.Signal(f.Body[0])) // it may have ended by itself; Done tells
			case f.Kind == wire.Resize && tty != nil && f.Decode(&size) == nil:
				tty.resize(size)
			}
		}
	}
}

// exitResult turns what Wait says into the program's exit code, 128+N for signal N as a shell has it.
func exitResult(err error) (wire.Result, error) {
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return wire.Result{}, nil
	case errors.As(err, &exit):
		status, _ := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return wire.Result{Code: 128 + int(status.Signal())}, nil
		}
		return wire.Result{Code: status.ExitStatus()}, nil
	}
	return wire.Result{}, err
}
