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
		Short: "Request a mode and wait until it is reached",
		Long: "request requests a mode and waits until it is reached, or the transition fails.\n\n" +
			"The mode ends when the first of --for, --until-idle or --confirm runs out. They\n" +
			"count from when the mode was reached. The daemon then requests the previous\n" +
			"mode, which guards may block.\n\n" +
			"Exit codes: 0 reached or nothing to do; 10-19 the code of the first guard that\n" +
			"blocks, 20-29 of one whose answer is unknown; 30 misuse; 40 not authorized;\n" +
			"41 daemon not reachable; 42 busy; 43 canceled; 44 stale plan; 50 degraded;\n" +
			"51 failed; 52 timed out; 53 rolled back; 54 rollback failed; 55 interrupted.",
		Args: modeFor("request"),
	}, func() ([]policy.GuardID, error) { return nil, nil })
}

// force is request without some soft guards.
func (c *commands) force() *cobra.Command {
	var skip []string
	cmd := c.requester(&cobra.Command{
		Use:   "force MODE --skip GUARD",
		Short: "Request a mode past soft guards",
		Long: "force requests a mode like request, and ignores the guards named by --skip. Only\n" +
			"soft guards can be skipped:\n  " + strings.Join(softGuards(), "\n  ") + "\n\n" +
			"It needs its own polkit permission, and the record lists the skipped guards. The\n" +
			"exit codes are those of request.",
		Args: modeFor("force"),
	}, func() ([]policy.GuardID, error) { return parseSkip(skip) })
	cmd.Flags().StringSliceVar(&skip, "skip", nil, "ignore the verdict of `GUARD`; can be repeated")
	return cmd
}

// parseSkip checks the guards of --skip. Its errors are misuse.
func parseSkip(names []string) ([]policy.GuardID, error) {
	if len(names) == 0 {
		return nil, exit{exitMisuse, errors.New("force needs at least one --skip GUARD")}
	}
	ids := make([]policy.GuardID, len(names))
	for i, name := range names {
		ids[i] = policy.GuardID(name)
		if !slices.Contains(softGuards(), name) {
			text := fmt.Sprintf("guard %s cannot be skipped; these can: %s", name, strings.Join(softGuards(), ", "))
			if near := nearest(name, softGuards()); near != "" {
				text += fmt.Sprintf(" (did you mean %s?)", near)
			}
			return nil, exit{exitMisuse, errors.New(text)}
		}
	}
	return ids, nil
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

// requester completes a command that requests a mode.
func (c *commands) requester(cmd *cobra.Command, skips func() ([]policy.GuardID, error)) *cobra.Command {
	var options requestOptions
	cmd.ValidArgs = modeWords()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		skip, err := skips()
		if err != nil {
			return err
		}
		request, err := options.request(cmd)
		if err != nil {
			return err
		}
		request.Skip = skip
		return c.runRequest(cmd.Context(), policy.Mode(args[0]), request, options)
	}
	flags := cmd.Flags()
	flags.StringVar(&options.reason, "reason", "", "`TEXT` for the record")
	flags.StringVar(&options.plan, "plan", "", "run exactly the plan that dry-run printed with `FINGERPRINT`, or nothing")
	flags.DurationVar(&options.grace, "grace", 0, "override the warning period of the policy by `TIME`")
	flags.DurationVar(&options.terms.For, "for", 0, "leave the mode after `TIME`")
	flags.DurationVar(&options.terms.UntilIdle, "until-idle", 0, "leave the mode when vLLM got no request for `TIME`")
	flags.DurationVar(&options.terms.Confirm, "confirm", 0, "leave the mode unless modectl confirm runs within `TIME`")
	flags.BoolVar(&options.ignoreDelays, "ignore-delays", false, "do not wait for delay inhibitors (root)")
	flags.BoolVar(&options.noAskPassword, "no-ask-password", false, "never prompt for a password")
	flags.BoolVar(&options.noWait, "no-wait", false, "return as soon as the request is accepted")
	return cmd
}

// request checks the flags that were given. Its errors are misuse.
func (o *requestOptions) request(cmd *cobra.Command) (r client.RequestOptions, err error) {
	r = client.RequestOptions{Why: o.reason, Plan: o.plan, NoWait: o.ignoreDelays}
	if cmd.Flags().Changed("plan") {
		if err := busapi.Fingerprint(o.plan); err != nil {
			return r, exit{exitMisuse, err}
		}
	}
	if cmd.Flags().Changed("grace") {
		if o.grace < 0 || o.grace > busapi.MaxGrace*time.Second || o.grace%time.Second != 0 {
			return r, exit{exitMisuse, fmt.Errorf("--grace must be whole seconds from 0s to 24h, not %s", o.grace)}
		}
		r.Grace = &o.grace
	}
	r.Terms, err = parseTerms(cmd, o.terms)
	return r, err
}

// modeFor checks the mode before the daemon is called, so that misuse is reported
// whether or not it runs.
func modeFor(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s needs one mode: %s", command, strings.Join(modeWords(), ", "))
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

// authentication permits password prompts on this terminal until stopAgent is called.
func (c *commands) authentication(
	ctx context.Context, noAskPassword bool,
) (options client.Options, stopAgent func()) {
	stopAgent = func() {}
	if c.interactive && !noAskPassword && os.Geteuid() != 0 {
		stopAgent = startAgent(ctx, agentProgram)
	}
	return client.Options{Interactive: !noAskPassword}, stopAgent
}

func (c *commands) runRequest(
	ctx context.Context, mode policy.Mode, request client.RequestOptions, options requestOptions,
) error {
	bus, stopAgent := c.authentication(ctx, options.noAskPassword)
	defer stopAgent()
	if options.noWait {
		return c.query(ctx, bus, func(daemon *client.Client) (string, error) {
			id, err := daemon.Submit(ctx, mode, request)
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
	err := c.query(ctx, bus, func(daemon *client.Client) (text string, err error) {
		progress := progress{out: c.stderr, redraws: c.redraws}
		record, err = daemon.Request(ctx, mode, request, client.ProgressHandler{
			Prepare: progress.announced, Step: progress.step, Progress: progress.stepProgress,
		})
		progress.end()
		if err != nil {
			return "", err
		}
		if c.json {
			return render.FinishedJSON(record), nil
		}
		return render.Finished(record) + render.Terms(record, request.Terms), nil
	})
	if err != nil {
		return err
	}
	if code := resultCode(record); code != exitOK {
		return exit{code, nil} // the printed record says why
	}
	return nil
}
