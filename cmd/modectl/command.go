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
	"github.com/dubnium/dubnium/internal/version"
)

// streams is where modectl talks.
type streams struct {
	stdout, stderr io.Writer
	// asks: a person at a terminal can be asked for a password.
	asks bool
	// redraws: stderr is a terminal, where a line can be written over.
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
		// What our commands return has a code; the rest is cobra's own complaint
		// about the command line.
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
		Short: "Ask for and look at the modes of this workstation",
		Long: "modectl asks dubniumd what this workstation is, what it was asked to be, and to be\n" +
			"something else: desktop, studio-local or compute.",
		Version:            version.Version,
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true, // they would be lines of their own
	}
	root.SetOut(s.stdout)
	root.SetErr(s.stderr)
	root.SetVersionTemplate("modectl {{.Version}}\n")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	root.AddCommand(c.status(), c.current(), c.desired(), c.explain(), c.history(), c.lastTransition(), c.show(),
		c.doctor(), c.record(), c.request(), c.force(), c.dryRun(), c.cancel(), c.postpone(), c.confirm(), c.inhibit(),
		c.guards(), c.guard(), c.policy())
	root.InitDefaultCompletionCmd()
	for _, sub := range root.Commands() {
		if sub.Name() == "completion" { // cobra's own answers a wrong shell with success
			sub.RunE = func(*cobra.Command, []string) error {
				return errors.New("completion takes one shell: bash, fish, powershell, zsh")
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

// ask runs one exchange with the daemon and prints the text that it gives.
func (c *commands) ask(
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
		return exit{exitFailed, fmt.Errorf("cannot print: %w", err)}
	}
	return nil
}

func (c *commands) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is, what was asked, and what stands between them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				p, err := daemon.Properties(cmd.Context())
				if err != nil {
					return "", err
				}
				if err := ownWords(cmd.Context(), daemon, &p.View); err != nil {
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

// ownWords puts the last transition as the caller may read it in the place of what
// the properties tell everybody. Where no record of it is kept, that is all there is.
func ownWords(ctx context.Context, daemon *client.Client, v *status.View) error {
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
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
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
	cmd.Flags().BoolVar(&refresh, "refresh", false, "have the daemon look afresh; with --json, print the evidence in full")
	return cmd
}

func (c *commands) desired() *cobra.Command {
	return &cobra.Command{
		Use:   "desired",
		Short: "Print the mode that was asked for last, one word",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
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

// evidence is the last look's result, or a fresh one's in full.
func evidence(ctx context.Context, daemon *client.Client, refresh bool) (busapi.Evidence, error) {
	if refresh {
		return daemon.Observe(ctx)
	}
	p, err := daemon.Properties(ctx)
	return busapi.Evidence{Observation: p.View.Observation, Since: p.View.ObservedSince}, err
}
