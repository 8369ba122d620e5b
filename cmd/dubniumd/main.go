// Command dubniumd is the mode controller: it owns org.dubnium.Mode1 on the system bus.
// `dubniumd audio-priority` is the program of audio-priority.service, `dubniumd quantum`
// that of the units which it starts, and `dubniumd session-end` that of
// dubnium-session-end@.service. `dubniumd impact` lists what isolating a target would do,
// and `dubniumd replay` classifies a recording again.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
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
		os.Exit(2) // 1 is a replay that failed
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "dubniumd: %v\n", err)
		os.Exit(1)
	}
}

func serveCommand() *cobra.Command {
	var policyFile string
	var roots roots
	cmd := newCommand("dubniumd", "Keep a workstation in its desired mode",
		func(ctx context.Context, _ io.Writer, _ []string) error {
			return serve(ctx, policyFile, roots, newLog())
		})
	policyFlag(cmd, &policyFile, "/etc/dubnium/policy.toml")
	cmd.Flags().StringVar(&roots.proc, "proc", procfs.Root, "`DIRECTORY` of the kernel's processes")
	cmd.Flags().StringVar(&roots.cgroups, "cgroups", host.Cgroups, "`DIRECTORY` of the kernel's control groups")
	hideFlag(cmd, "proc")
	hideFlag(cmd, "cgroups")
	return cmd
}

// newLog returns a logger that writes structured lines to stderr, or to the journal with
// their fields if stderr is connected to it.
func newLog() *zap.Logger {
	// No TimeKey: the journal has timestamps of its own.
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		LevelKey: "level", MessageKey: "msg", LineEnding: zapcore.DefaultLineEnding,
		EncodeLevel: zapcore.LowercaseLevelEncoder, EncodeTime: zapcore.EpochTimeEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder,
	})
	plain := zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zapcore.InfoLevel)
	return zap.New(journald.New(plain, "dubniumd"))
}
