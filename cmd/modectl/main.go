// Command modectl shows the observed and the desired mode of this workstation, and
// requests modes from dubniumd.
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
		interactive: isTerminal(os.Stdin), redraws: isTerminal(os.Stderr),
	}))
}
