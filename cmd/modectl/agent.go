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

// agentProgram asks for passwords on the terminal, for sessions without an agent
// of their own. It comes with polkit.
const agentProgram = "pkttyagent"

const (
	// agentReady bounds the wait for the agent to register with polkit.
	agentReady = 5 * time.Second
	// agentLeaves bounds the wait for it to put the terminal back in order.
	agentLeaves = 2 * time.Second
)

// startAgent starts a polkit agent for this process, as systemctl does, and
// returns what ends it. Without one the request goes on: it may need no
// password, and when it does the daemon's refusal says so.
func startAgent(ctx context.Context, program string) (stop func()) {
	ready, notify, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	defer ready.Close()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	// --fallback leaves an agent that the session has in charge. The first extra
	// file is descriptor 3.
	agent := exec.CommandContext(ctx, program, "--process", strconv.Itoa(os.Getpid()), "--notify-fd", "3", "--fallback")
	agent.Stdin, agent.Stdout, agent.Stderr = os.Stdin, os.Stdout, os.Stderr
	agent.ExtraFiles = []*os.File{notify}
	// Asked to leave it restores the terminal's echo; killed it would not.
	agent.Cancel = func() error { return agent.Process.Signal(syscall.SIGTERM) }
	agent.WaitDelay = agentLeaves
	err = agent.Start()
	_ = notify.Close()
	if err != nil {
		cancel()
		return func() {}
	}
	// It closes its end when it is registered, and so does its death.
	_ = ready.SetReadDeadline(time.Now().Add(agentReady))
	_, _ = io.Copy(io.Discard, ready)
	return func() {
		cancel()
		_ = agent.Wait() // how it ends changes nothing
	}
}

// isTerminal reports whether f is a terminal.
func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
