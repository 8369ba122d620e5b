package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/internal/errtext"
	"github.com/dubnium/dubnium/internal/version"
)

// streams are the outputs of modectl and what its terminal permits.
type streams struct {
	stdout, stderr io.Writer
	// interactive: stdin is a terminal, on which a password can be entered.
	interactive bool
	// redraws: stderr is a terminal, on which a line can be overwritten.
	redraws bool
}

// run runs one command and returns its exit code. Every failure is one line on
// stderr.
func run(ctx context.Context, args []string, s streams) int {
	root := command(s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var ended exit
	if !errors.As(err, &ended) {
		// Errors without a code are about the command line.
		ended = exit{exitMisuse, fmt.Errorf("%w; see: modectl --help", err)}
	}
	if text := ended.Error(); text != "" {
		fmt.Fprintln(s.stderr, "modectl: "+strings.ReplaceAll(strings.TrimSpace(text), "\n", " "))
	}
	return ended.code
}

func command(s streams) *cobra.Command {
	c := &commands{streams: s}
	root := &cobra.Command{
		Use:   "modectl",
		Short: "Show and change the mode of this workstation",
		Long: "modectl shows the observed and the desired mode of this workstation, and\n" +
			"requests another: desktop, studio-local or compute.",
		Version:            version.Version,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // an error is one line
	}
	root.SetOut(s.stdout)
	root.SetErr(s.stderr)
	root.SetVersionTemplate("modectl {{.Version}}\n")
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 80"))
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	root.AddCommand(c.status(), c.current(), c.desired(), c.explain(), c.history(), c.lastTransition(), c.show(),
		c.doctor(), c.record(), c.request(), c.force(), c.dryRun(), c.cancel(), c.postpone(), c.confirm(), c.inhibit(),
		c.guards(), c.guard(), c.policy())
	root.InitDefaultCompletionCmd()
	for _, sub := range root.Commands() {
		if sub.Name() == "completion" { // by default cobra exits 0 without a shell
			sub.RunE = func(*cobra.Command, []string) error {
				return errors.New("completion needs one shell: bash, fish, powershell, zsh")
			}
			for _, shell := range sub.Commands() {
				shell.Long = "" // longer than 80 columns, and of other systems
			}
		}
	}
	return root
}

// commands are the subcommands, with what they share.
type commands struct {
	streams
	json bool
}

// query runs one exchange with the daemon and prints the text that it returns.
func (c *commands) query(
	ctx context.Context, options client.Options, exchange func(*client.Client) (string, error),
) error {
	daemon, err := client.Open(ctx, options)
	if err != nil {
		return failure(err)
	}
	defer daemon.Close()
	text, err := exchange(daemon)
	if err != nil {
		return failure(err)
	}
	return c.print(text)
}

func (c *commands) print(text string) error {
	if _, err := io.WriteString(c.stdout, text); err != nil {
		return exit{exitFailed, fmt.Errorf("cannot print: %s", errtext.Of(err))}
	}
	return nil
}

func (c *commands) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the desired and the observed mode, and what blocks",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				p, err := daemon.Properties(cmd.Context())
				if err != nil {
					return "", err
				}
				if err := replaceLastRecord(cmd.Context(), daemon, &p.View); err != nil {
					return "", err
				}
				if c.json {
					return render.StatusJSON(p), nil
				}
				return render.Status(p.View, time.Now()), nil
			})
		},
	}
}

// replaceLastRecord replaces the public record of the last transition by the one that
// the caller may read. A record that is no longer kept leaves the public one.
func replaceLastRecord(ctx context.Context, daemon *client.Client, v *status.View) error {
	if v.Last == nil {
		return nil
	}
	outcome, err := daemon.Transition(ctx, v.Last.ID)
	if errors.Is(err, status.ErrNoSuchTransition) {
		return nil
	}
	if err != nil || outcome.Finished == nil {
		return err
	}
	v.Last = outcome.Finished
	if len(v.BlockedBy) > 0 {
		v.BlockedBy = guards.Blocking(v.Last.Guards)
	}
	return nil
}

func (c *commands) current() *cobra.Command {
	var refresh bool
	cmd := &cobra.Command{
		Use:   "current",
		Short: "Print the observed state, one word",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				e, err := evidence(cmd.Context(), daemon, refresh)
				switch {
				case err != nil:
					return "", err
				case c.json && refresh:
					return render.EvidenceJSON(e), nil
				case c.json:
					return render.CurrentJSON(e.Observation, e.Since), nil
				}
				return render.Word(e.Observation.State), nil
			})
		},
	}
	cmd.Flags().BoolVar(&refresh, "refresh", false, "read the host again; with --json, print the full evidence")
	return cmd
}

func (c *commands) desired() *cobra.Command {
	return &cobra.Command{
		Use:   "desired",
		Short: "Print the mode that was requested last, one word",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				p, err := daemon.Properties(cmd.Context())
				if err != nil {
					return "", err
				}
				if c.json {
					return render.DesiredJSON(p.View.Desired), nil
				}
				return render.Word(p.View.Desired.Mode), nil
			})
		},
	}
}

// evidence returns the last observation, or with refresh that of a fresh snapshot and
// the snapshot.
func evidence(ctx context.Context, daemon *client.Client, refresh bool) (busapi.Evidence, error) {
	if refresh {
		return daemon.Observe(ctx)
	}
	p, err := daemon.Properties(ctx)
	return busapi.Evidence{Observation: p.View.Observation, Since: p.View.ObservedSince}, err
}
