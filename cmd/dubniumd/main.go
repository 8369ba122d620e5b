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
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap/zapcore"

	"github.com/dubnium/dubnium/daemon/host"
	"github.com/dubnium/dubnium/internal/journald"
	"github.com/dubnium/dubnium/internal/version"
	"github.com/dubnium/dubnium/internal/zap"
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
	var policyFile string
	var roots roots
	root := &cobra.Command{
		Use:           "dubniumd",
		Short:         "Keep a workstation in the mode it was asked to be in",
		Version:       version.Version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), policyFile, roots, newLog())
		},
	}
	root.Flags().StringVar(&policyFile, "policy", "/etc/dubnium/policy.toml", "the policy `FILE`")
	root.Flags().StringVar(&roots.proc, "proc", procfs.Root, "where the kernel's `DIRECTORY` of processes is, for tests")
	root.Flags().StringVar(&roots.cgroups, "cgroups", host.Cgroups, "where the kernel's `DIRECTORY` of control groups is, for tests")
	_ = root.Flags().MarkHidden("proc") // they are there
	_ = root.Flags().MarkHidden("cgroups")
	root.AddCommand(audioPriorityCommand(), quantumCommand(), sessionEndCommand(), impactCommand(), replayCommand())
	return root
}

// newLog writes structured lines to stderr, or with their fields to the journal
// where that is what stderr leads to.
func newLog() *zap.Logger {
	return zap.Console(os.Stderr).WrapCore(func(plain zapcore.Core) zapcore.Core { return journald.New(plain, "dubniumd") })
}
