package main

import (
	"context"
	"fmt"
	"os"
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
	ignoreDelays  bool
	noAskPassword bool
	noWait        bool
}

func (c *commands) request() *cobra.Command {
	var options requestOptions
	cmd := &cobra.Command{
		Use:   "request MODE",
		Short: "Ask for a mode and wait until it is reached",
		Long: "Ask for a mode and wait until it is reached, or until it is clear that it will not be.\n\n" +
			"Exit codes: 0 reached or nothing to do; 10-19 the code of the first guard that blocks,\n" +
			"20-29 of one that could not be judged; 30 misuse; 40 not authorized; 41 daemon not\n" +
			"reachable; 42 busy; 43 canceled; 44 stale plan; 50 degraded; 51 failed; 52 timed out;\n" +
			"53 rolled back; 54 rollback failed; 55 interrupted.",
		Args:      modeFor("request"),
		ValidArgs: modeWords(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("plan") {
				if err := busapi.Fingerprint(options.plan); err != nil {
					return exit{exitMisuse, err}
				}
			}
			ask := client.Ask{Why: options.reason, Plan: options.plan, NoWait: options.ignoreDelays}
			if cmd.Flags().Changed("grace") {
				if options.grace < 0 || options.grace%time.Second != 0 {
					return exit{exitMisuse, fmt.Errorf("a grace is a whole number of seconds, not %s", options.grace)}
				}
				ask.Grace = &options.grace
			}
			return c.runRequest(cmd.Context(), policy.Mode(args[0]), ask, options)
		},
	}
	cmd.Flags().StringVar(&options.reason, "reason", "", "`TEXT` for the record")
	cmd.Flags().StringVar(&options.plan, "plan", "", "do exactly the plan of this `FINGERPRINT`, which dry-run prints, or nothing")
	cmd.Flags().DurationVar(&options.grace, "grace", 0, "warn people for `TIME`, and not for as long as policy says")
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
		record, err = daemon.Request(ctx, mode, ask, client.Follower{Prepare: progress.announced, Step: progress.step})
		progress.end()
		if err != nil {
			return "", err
		}
		if c.json {
			return render.FinishedJSON(record), nil
		}
		return render.Finished(record), nil
	})
	if err != nil {
		return err
	}
	if code := resultCode(record); code != exitOK {
		return exit{code, nil} // what was printed says why
	}
	return nil
}
