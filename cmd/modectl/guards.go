package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/policy"
)

// guards judges a request without making it.
func (c *commands) guards() *cobra.Command {
	return &cobra.Command{
		Use:   "guards MODE",
		Short: "Say which guards would let a request for a mode pass, and ask for nothing",
		Long: "guards has the daemon look afresh and prints what the guards of a request for MODE say. Those that\n" +
			"are judged only once the sessions are gone are not among them.\n\n" +
			"The exit code is that of the first guard that stands in the way: 10-19 when it blocks, 20-29 when\n" +
			"it could not be judged; 0 when none does.",
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

// guard judges one, for scripts.
func (c *commands) guard() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "guard NAME",
		Short: "Judge one guard, and print its verdict as a line of JSON",
		Long: "guard has the daemon look afresh, prints the verdict of one guard as a line of JSON, and exits with\n" +
			"the guard's own code: 0 pass, 10-19 blocked, 20-29 could not be judged.\n\nThe guards:\n  " +
			strings.Join(guardWords(), "\n  "),
		ValidArgs: guardWords(),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("guard takes the name of one guard")
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
	cmd.Flags().StringVar(&mode, "for", string(policy.Compute), "judge a request for `MODE`")
	return cmd
}

// judge prints what the guards say, and exits as the first that stands in the way.
func (c *commands) judge(
	ctx context.Context, mode policy.Mode, ids []policy.GuardID, text func([]guards.Verdict) string,
) error {
	var verdicts []guards.Verdict
	err := c.ask(ctx, client.Options{}, func(daemon *client.Client) (_ string, err error) {
		if verdicts, err = daemon.Guards(ctx, mode, ids...); err != nil {
			return "", err
		}
		return text(verdicts), nil
	})
	if err != nil {
		return err
	}
	return letBy(verdicts)
}

// letBy is nil when no guard stands in the way, else an exit with the code of the
// first that does. What was printed says why.
func letBy(verdicts []guards.Verdict) error {
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
