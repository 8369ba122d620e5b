// Command dubniumd is the mode controller: it owns org.dubnium.Mode1 on the
// system bus. `dubniumd audio-priority` is the helper behind
// audio-priority.service; `dubniumd impact` tells what isolating a target would do, and
// `dubniumd replay` classifies a recording again.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/dubnium/dubnium/internal/journald"
	"github.com/dubnium/dubnium/internal/version"
	"github.com/dubnium/dubnium/observer/procfs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := command().ExecuteContext(ctx)
	if errors.Is(err, errDiffers) {
		os.Exit(2) // 1 is a replay that could not be done
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "dubniumd: %v\n", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var policyFile, procRoot string
	root := &cobra.Command{
		Use:           "dubniumd",
		Short:         "Keep a workstation in the mode it was asked to be in",
		Version:       version.Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLog()
			if err != nil {
				return fmt.Errorf("cannot make a log: %w", err)
			}
			return serve(cmd.Context(), policyFile, procRoot, log)
		},
	}
	root.Flags().StringVar(&policyFile, "policy", "/etc/dubnium/policy.toml", "the policy `FILE`")
	root.Flags().StringVar(&procRoot, "proc", procfs.Root, "where the kernel's `DIRECTORY` is, for tests")
	_ = root.Flags().MarkHidden("proc") // it is there
	root.AddCommand(&cobra.Command{
		Use:   "audio-priority",
		Short: "Hold what keeps audio latency low, until told to end",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return holdAudioPriority(cmd.Context(), "/dev/cpu_dma_latency")
		},
	})
	root.AddCommand(impactCommand(), replayCommand())
	return root
}

// newLog writes structured lines to stderr, or with their fields to the journal
// where that is what stderr leads to; the journal has the time already.
func newLog() (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.Encoding = "console"
	config.EncoderConfig.TimeKey = ""
	config.DisableStacktrace = true
	config.DisableCaller = true
	config.Sampling = nil
	return config.Build(zap.WrapCore(func(plain zapcore.Core) zapcore.Core { return journald.New(plain, "dubniumd") }))
}
