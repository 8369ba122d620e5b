package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dubnium/dubnium/internal/version"
)

// execute runs the command of args, which writes to out.
func execute(ctx context.Context, out io.Writer, args []string) error {
	root := rootCommand()
	root.SetOut(out)
	root.SetArgs(append([]string{}, args...)) // for nil, cobra uses the arguments of the process
	return root.ExecuteContext(ctx)
}

// rootCommand sets none of cobra's templates: executing them costs 1.8 MB of resident
// memory (docs/decisions/0013-small-daemon.md).
func rootCommand() *cobra.Command {
	root := serveCommand()
	root.Version = version.Version
	root.Args = noCommand
	root.SilenceErrors, root.SilenceUsage = true, true
	root.DisableSuggestions = true // an error is one line
	root.CompletionOptions.DisableDefaultCmd = true
	// --help is enough: cobra's help command exits with 0 for an unknown topic. This one has
	// no name.
	root.SetHelpCommand(&cobra.Command{Hidden: true, RunE: func(*cobra.Command, []string) error {
		return noCommand(root, []string{""})
	}})
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(audioPriorityCommand(), quantumCommand(), sessionEndCommand(), impactCommand(), replayCommand())
	return root
}

// newCommand returns a command with one argument for each word of use after the name.
func newCommand(use, short string, run func(ctx context.Context, out io.Writer, args []string) error) *cobra.Command {
	takes := len(strings.Fields(use)) - 1
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != takes {
				return fmt.Errorf("usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), cmd.OutOrStdout(), args)
		},
	}
}

// noCommand rejects an argument that is not a subcommand.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unknown command %q; see `%s --help`", args[0], cmd.CommandPath())
	}
	return nil
}

// flagError replaces the parse error of a library by a message with the value and flag.
func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		err = fmt.Errorf("invalid argument %q for --%s", invalid.GetValue(), invalid.GetFlag().Name)
	}
	return fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())
}

// policyFlag defines --policy.
func policyFlag(cmd *cobra.Command, file *string, otherwise string) {
	cmd.Flags().StringVar(file, "policy", otherwise, "policy `FILE`")
}

// hideFlag removes a flag for tests from the help.
func hideFlag(cmd *cobra.Command, name string) { cmd.Flags().Lookup(name).Hidden = true }
