package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// agentProgram is polkit's text agent. It prompts for passwords on the terminal, in
// sessions that have no agent.
const agentProgram = "pkttyagent"

const (
	// agentReadyTimeout bounds the wait for the agent to register with polkit.
	agentReadyTimeout = 5 * time.Second
	// agentExitTimeout bounds the wait for the agent to restore the terminal and exit.
	agentExitTimeout = 2 * time.Second
)

// startAgent starts a polkit agent for this process, as systemctl does. stop ends it.
// A failure to start is not an error: the request may need no password, and if it
// does, the daemon refuses it with a hint.
func startAgent(ctx context.Context, program string) (stop func()) {
	ready, notify, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	defer ready.Close()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	// --fallback keeps an agent that the session has registered. The first extra file
	// is descriptor 3.
	agent := exec.CommandContext(ctx, program, "--process", strconv.Itoa(os.Getpid()), "--notify-fd", "3", "--fallback")
	agent.Stdin, agent.Stdout, agent.Stderr = os.Stdin, os.Stdout, os.Stderr
	agent.ExtraFiles = []*os.File{notify}
	// On SIGTERM pkttyagent restores the echo of the terminal; SIGKILL would leave it off.
	agent.Cancel = func() error { return agent.Process.Signal(syscall.SIGTERM) }
	agent.WaitDelay = agentExitTimeout
	err = agent.Start()
	_ = notify.Close()
	if err != nil {
		cancel()
		return func() {}
	}
	// The agent closes its end once it is registered; the kernel does if it dies.
	_ = ready.SetReadDeadline(time.Now().Add(agentReadyTimeout))
	_, _ = io.Copy(io.Discard, ready)
	return func() {
		cancel()
		_ = agent.Wait() // its exit status changes nothing
	}
}

// isTerminal reports whether f is a terminal.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
