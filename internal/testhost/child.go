package testhost

import (
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// child is a process that this one started and that dies with it.
type child struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// startChild starts cmd. The kernel ends it when the thread that started it
// does (PR_SET_PDEATHSIG), so that a test that is killed leaves nothing behind;
// that thread is therefore kept until the child is gone.
func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, done: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how a child ends is not ours to judge
		}
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// stop kills the child by its pid and waits for it.
func (c *child) stop() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}
