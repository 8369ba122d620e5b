// Command dubniumd is the mode controller: it owns org.dubnium.Mode1 on the
// system bus. `dubniumd audio-priority` is the helper behind
// audio-priority.service, and `dubniumd quantum` that behind the units which it
// starts; `dubniumd impact` tells what isolating a target would do, and `dubniumd
// replay` classifies a recording again.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dubnium/dubnium/daemon/host"
	"github.com/dubnium/dubnium/internal/journald"
	"github.com/dubnium/dubnium/observer/procfs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := execute(ctx, os.Stdout, os.Args[1:])
	if errors.Is(err, errDiffers) {
		os.Exit(2) // 1 is a replay that could not be done
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "dubniumd: %v\n", err)
		os.Exit(1)
	}
}

func commands() []*command {
	return []*command{serveCommand(), audioPriorityCommand(), holdQuantumCommand(), releaseQuantumCommand(), sessionEndCommand(), impactCommand(), replayCommand()}
}

func serveCommand() *command {
	var policyFile string
	var roots roots
	c := newCommand("", "Keep a workstation in the mode it was asked to be in")
	c.flag(&policyFile, "policy", "/etc/dubnium/policy.toml", "the policy `FILE`", false)
	c.flag(&roots.proc, "proc", procfs.Root, "where the kernel's `DIRECTORY` of processes is, for tests", true)
	c.flag(&roots.cgroups, "cgroups", host.Cgroups, "where the kernel's `DIRECTORY` of control groups is, for tests", true)
	c.run = func(ctx context.Context, _ io.Writer, _ []string) error {
		return serve(ctx, policyFile, roots, newLog())
	}
	return c
}

// newLog writes structured lines to stderr, or with their fields to the journal
// where that is what stderr leads to.
func newLog() *zap.Logger {
	// The journal has times of its own.
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		LevelKey: "level", MessageKey: "msg", LineEnding: zapcore.DefaultLineEnding,
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeTime: zapcore.EpochTimeEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	})
	plain := zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zapcore.InfoLevel)
	return zap.New(journald.New(plain, "dubniumd"))
}
