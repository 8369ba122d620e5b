package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// requestOptions are the flags of `modectl request`.
type requestOptions struct {
	reason        string
	plan          string
	grace         time.Duration
	terms         status.Terms
	ignoreDelays  bool
	noAskPassword bool
	noWait        bool
}

func (c *commands) request() *cobra.Command {
	return c.requester(&cobra.Command{
		Use:   "request MODE",
		Short: "Ask for a mode and wait until it is reached",
		Long: "Ask for a mode and wait until it is reached, or until it is clear that it will not be.\n\n" +
			"A mode ends by itself when the first of the terms is over that it was asked for on: --for, --until-idle,\n" +
			"--confirm. They count from when it was reached; then the mode from before is asked for, by the same guards.\n\n" +
			"Exit codes: 0 reached or nothing to do; 10-19 the code of the first guard that blocks,\n" +
			"20-29 of one that could not be judged; 30 misuse; 40 not authorized; 41 daemon not\n" +
			"reachable; 42 busy; 43 canceled; 44 stale plan; 50 degraded; 51 failed; 52 timed out;\n" +
			"53 rolled back; 54 rollback failed; 55 interrupted.",
		Args: modeFor("request"),
	}, func() ([]policy.GuardID, error) { return nil, nil })
}

// force is request against the advice of guards.
func (c *commands) force() *cobra.Command {
	var skip []string
	cmd := c.requester(&cobra.Command{
		Use:   "force MODE --skip GUARD",
		Short: "Ask for a mode although soft guards refuse it",
		Long: "force is request, but for the guards that are named: when they refuse, it does not count. Only soft ones\n" +
			"can be skipped: " + strings.Join(softGuards(), ", ") + ".\n" +
			"It is a right of its own, and the record tells what was skipped. The exit codes are those of request.",
		Args: modeFor("force"),
	}, func() ([]policy.GuardID, error) {
		if len(skip) == 0 {
			return nil, exit{exitMisuse, errors.New("force takes the guards that are not to count: --skip GUARD")}
		}
		ids := make([]policy.GuardID, len(skip))
		for i, name := range skip {
			ids[i] = policy.GuardID(name)
			if !slices.Contains(softGuards(), name) {
				return nil, exit{
					exitMisuse, fmt.Errorf("%q is not a soft guard: these are %s", name, strings.Join(softGuards(), ", ")),
				}
			}
		}
		return ids, nil
	})
	cmd.Flags().StringSliceVar(&skip, "skip", nil, "the `GUARD` whose refusal is not to count; may be given again")
	return cmd
}

func softGuards() []string {
	var names []string
	for _, g := range policy.Guards() {
		if !g.Hard {
			names = append(names, string(g.ID))
		}
	}
	return names
}

// requester completes a command that asks for a mode.
func (c *commands) requester(cmd *cobra.Command, skips func() ([]policy.GuardID, error)) *cobra.Command {
	var options requestOptions
	cmd.ValidArgs = modeWords()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		skip, err := skips()
		if err != nil {
			return err
		}
		if cmd.Flags().Changed("plan") {
			if err := busapi.Fingerprint(options.plan); err != nil {
				return exit{exitMisuse, err}
			}
		}
		ask := client.Ask{Why: options.reason, Plan: options.plan, NoWait: options.ignoreDelays, Skip: skip}
		if cmd.Flags().Changed("grace") {
			if options.grace < 0 || options.grace > busapi.MaxGrace*time.Second || options.grace%time.Second != 0 {
				return exit{exitMisuse, fmt.Errorf("a grace is a whole number of seconds from 0s to 24h, not %s", options.grace)}
			}
			ask.Grace = &options.grace
		}
		if ask.Terms, err = terms(cmd, options.terms); err != nil {
			return err
		}
		return c.runRequest(cmd.Context(), policy.Mode(args[0]), ask, options)
	}
	cmd.Flags().StringVar(&options.reason, "reason", "", "`TEXT` for the record")
	cmd.Flags().StringVar(&options.plan, "plan", "", "do exactly the plan of this `FINGERPRINT`, which dry-run prints, or nothing")
	cmd.Flags().DurationVar(&options.grace, "grace", 0, "warn people for `TIME`, and not for as long as policy says")
	cmd.Flags().DurationVar(&options.terms.For, "for", 0, "go back after `TIME` in the mode")
	cmd.Flags().DurationVar(&options.terms.UntilIdle, "until-idle", 0, "go back when vLLM has had no request for `TIME`")
	cmd.Flags().DurationVar(&options.terms.Confirm, "confirm", 0, "go back unless modectl confirm comes within `TIME`")
	cmd.Flags().BoolVar(&options.ignoreDelays, "ignore-delays", false, "do not wait for delay inhibitors (root)")
	cmd.Flags().BoolVar(&options.noAskPassword, "no-ask-password", false, "do not ask for a password")
	cmd.Flags().BoolVar(&options.noWait, "no-wait", false, "return as soon as the request is accepted")
	return cmd
}

// modeFor checks the word before anything is asked: misuse is misuse whether or
// not the daemon runs.
func modeFor(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one mode: %s", command, strings.Join(modeWords(), ", "))
		}
		_, err := policy.ParseMode(args[0])
		return err
	}
}

func modeWords() []string {
	var words []string
	for _, m := range policy.Modes() {
		words = append(words, string(m))
	}
	return words
}

// mayAsk lets polkit ask the person at this terminal, until the returned function
// is called.
func (c *commands) mayAsk(ctx context.Context, noAskPassword bool) (options client.Options, end func()) {
	end = func() {}
	if c.asks && !noAskPassword && os.Geteuid() != 0 {
		end = startAgent(ctx, agentProgram)
	}
	return client.Options{Interactive: !noAskPassword}, end
}

func (c *commands) runRequest(ctx context.Context, mode policy.Mode, ask client.Ask, options requestOptions) error {
	bus, end := c.mayAsk(ctx, options.noAskPassword)
	defer end()
	if options.noWait {
		return c.ask(ctx, bus, func(daemon *client.Client) (string, error) {
			id, err := daemon.Submit(ctx, mode, ask)
			if err != nil {
				return "", err
			}
			if c.json {
				return render.AcceptedJSON(id), nil
			}
			return render.Accepted(id), nil
		})
	}
	var record status.Record
	err := c.ask(ctx, bus, func(daemon *client.Client) (text string, err error) {
		progress := progress{out: c.stderr, redraws: c.redraws}
		record, err = daemon.Request(
			ctx, mode, ask, client.ProgressHandler{Prepare: progress.announced, Step: progress.step, Progress: progress.further},
		)
		progress.end()
		if err != nil {
			return "", err
		}
		if c.json {
			return render.FinishedJSON(record), nil
		}
		return render.Finished(record) + render.Terms(record, ask.Terms), nil
	})
	if err != nil {
		return err
	}
	if code := resultCode(record); code != exitOK {
		return exit{code, nil} // what was printed says why
	}
	return nil
}
