package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/policy"
)

// guards runs the guards of a request without making it.
func (c *commands) guards() *cobra.Command {
	return &cobra.Command{
		Use:   "guards MODE",
		Short: "Run the guards of a request for a mode, and change nothing",
		Long: "guards reads the host again and prints the verdicts of the guards of a request\n" +
			"for MODE, except of those that run only after the sessions have ended.\n\n" +
			"Exit codes: 0 no guard blocks; else the code of the first guard that does:\n" +
			"10-19 it blocks, 20-29 its answer is unknown.",
		Args:      modeFor("guards"),
		ValidArgs: modeWords(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.judge(cmd.Context(), policy.Mode(args[0]), nil, func(verdicts []guards.Verdict) string {
				if c.json {
					return render.GuardsJSON(verdicts)
				}
				return render.Guards(verdicts)
			})
		},
	}
}

// guard runs one guard, for scripts.
func (c *commands) guard() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "guard NAME",
		Short: "Run one guard and print its verdict as a line of JSON",
		Long: "guard reads the host again and prints the verdict of one guard as a line of\n" +
			"JSON. The exit code is that of the guard: 0 pass, 10-19 it blocks, 20-29 its\n" +
			"answer is unknown.\n\nThe guards:\n  " +
			strings.Join(guardWords(), "\n  "),
		ValidArgs: guardWords(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("guard needs the name of one guard; modectl guard --help lists them")
			}
			if _, known := policy.Guard(policy.GuardID(args[0])); !known {
				return fmt.Errorf("unknown guard %q: modectl guard --help lists them", args[0])
			}
			_, err := policy.ParseMode(mode)
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.judge(cmd.Context(), policy.Mode(mode), []policy.GuardID{policy.GuardID(args[0])}, render.GuardLines)
		},
	}
	cmd.Flags().StringVar(&mode, "for", string(policy.Compute), "the guard of a request for `MODE`")
	return cmd
}

// judge prints the verdicts and exits with the code of the first that blocks.
func (c *commands) judge(
	ctx context.Context, mode policy.Mode, ids []policy.GuardID, text func([]guards.Verdict) string,
) error {
	var verdicts []guards.Verdict
	err := c.query(ctx, client.Options{}, func(daemon *client.Client) (_ string, err error) {
		if verdicts, err = daemon.Guards(ctx, mode, ids...); err != nil {
			return "", err
		}
		return text(verdicts), nil
	})
	if err != nil {
		return err
	}
	return blockedExit(verdicts)
}

// blockedExit is nil if no guard blocks, else an exit with the code of the first that
// does. The printed verdicts say why.
func blockedExit(verdicts []guards.Verdict) error {
	blocking := guards.Blocking(verdicts)
	if len(blocking) == 0 {
		return nil
	}
	if code, found := guardCode(blocking); found {
		return exit{code, nil}
	}
	return exit{exitFailed, nil}
}

func guardWords() []string {
	var words []string
	for _, g := range policy.Guards() {
		words = append(words, string(g.ID))
	}
	return words
}
