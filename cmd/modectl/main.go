// Command modectl asks dubniumd what this workstation is, what it was asked to
// be, and to be something else.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], streams{
		stdout: os.Stdout, stderr: os.Stderr,
		asks: isTerminal(os.Stdin), redraws: isTerminal(os.Stderr),
	}))
}
