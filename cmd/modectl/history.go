package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// historyOptions are the flags of `modectl history`, not parsed yet.
type historyOptions struct {
	since, until, result, mode, by string
	limit                          uint32
	follow                         bool
}

func (c *commands) history() *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List finished transitions, the latest first",
		Long: "history lists finished transitions, the latest first; with --json a line of JSON\n" +
			"for each.\n\n" +
			"TIME is \"2006-01-02\", \"2006-01-02 15:04\", in the format of RFC 3339, or a\n" +
			"duration before now: \"90m\", \"3d\".",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := o.filter(time.Now())
			if err != nil {
				return err
			}
			if o.follow {
				return c.followHistory(cmd.Context(), filter)
			}
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				records, err := daemon.History(cmd.Context(), filter)
				if err != nil {
					return "", err
				}
				if c.json {
					return render.HistoryJSON(records), nil
				}
				return render.History(records), nil
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.since, "since", "", "transitions that ended at or after `TIME`")
	flags.StringVar(&o.until, "until", "", "transitions that ended before `TIME`")
	flags.StringVar(&o.result, "result", "", "transitions that ended with `RESULT`")
	flags.StringVar(&o.mode, "mode", "", "transitions to `MODE`")
	flags.StringVar(&o.by, "by", "", "transitions that `USER` requested")
	flags.Uint32Var(&o.limit, "limit", busapi.DefaultHistory, "at most `N` transitions")
	flags.BoolVar(&o.follow, "follow", false, "print transitions as they end, the latest last")
	return cmd
}

// filter parses the flags. Its errors are misuse.
func (o historyOptions) filter(now time.Time) (status.Filter, error) {
	f := status.Filter{Result: status.Result(o.result), By: o.by, Limit: int(o.limit)}
	if o.limit < 1 || o.limit > busapi.MaxHistory {
		return f, fmt.Errorf("--limit must be 1 to %d, not %d", busapi.MaxHistory, o.limit)
	}
	if o.result != "" && !slices.Contains(status.Results(), f.Result) {
		return f, fmt.Errorf("unknown result %q: the results are %s", o.result, strings.Join(words(status.Results()), ", "))
	}
	var err error
	if o.mode != "" {
		if f.Mode, err = policy.ParseMode(o.mode); err != nil {
			return f, err
		}
	}
	if f.Since, err = parseTime(o.since, now); err == nil {
		f.Until, err = parseTime(o.until, now)
	}
	return f, err
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

// parseTime parses the argument of --since and --until, in the time zone of now. An
// empty text is the zero time.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, "2006-01-02 15:04", time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf(
		"%q is not a time: use \"2006-01-02 15:04\", or a duration before now, \"90m\" or \"3d\"", text,
	)
}

// followHistory prints the records there are, the latest last, and then each that is
// announced, until it is interrupted.
func (c *commands) followHistory(ctx context.Context, f status.Filter) error {
	daemon, err := client.Open(ctx, client.Options{})
	if err != nil {
		return failure(err)
	}
	defer daemon.Close()
	// Subscribe first: a transition that ends in between is read twice and printed once.
	if err := daemon.FollowFinished(ctx); err != nil {
		return failure(err)
	}
	records, err := daemon.History(ctx, f)
	if err != nil {
		return failure(err)
	}
	slices.Reverse(records)
	var printed uint64
	for {
		for _, r := range records {
			if r.ID <= printed || !f.Match(r) {
				continue
			}
			printed = r.ID
			text := render.HistoryLine(r)
			if c.json {
				text = render.HistoryJSON([]status.Record{r})
			}
			if err := c.print(text); err != nil {
				return err
			}
		}
		if records, err = daemon.AwaitFinished(ctx); err != nil {
			if errors.Is(err, client.ErrStopped) {
				return nil // an interrupt is the normal end
			}
			return failure(err)
		}
	}
}

func (c *commands) lastTransition() *cobra.Command {
	return &cobra.Command{
		Use:   "last-transition",
		Short: "Show the last transition: guards, steps, undo, result",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				p, err := daemon.Properties(cmd.Context())
				if err != nil {
					return "", err
				}
				if p.View.Last != nil {
					// The public record is redacted; this one is redacted for the caller.
					outcome, err := daemon.Transition(cmd.Context(), p.View.Last.ID)
					if err != nil {
						return "", err
					}
					if outcome.Finished != nil {
						return c.story(*outcome.Finished), nil
					}
				}
				// No transition in this boot: the history may have an older one.
				records, err := daemon.History(cmd.Context(), status.Filter{Limit: 1})
				switch {
				case err != nil:
					return "", err
				case len(records) == 0:
					return "", exit{exitMisuse, errors.New("there is no transition yet")}
				}
				return c.story(records[0]), nil
			})
		},
	}
}

func (c *commands) show() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one transition: guards, steps, undo, result",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("show needs the id of a transition: see modectl history")
			}
			_, err := parseID(args[0])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[0])
			if err != nil {
				return err
			}
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				outcome, err := daemon.Transition(cmd.Context(), id)
				switch {
				case err != nil:
					return "", err
				case outcome.Finished != nil:
					return c.story(*outcome.Finished), nil
				case outcome.Running == nil:
					return "", fmt.Errorf("the daemon has no data about transition %d", id)
				case c.json:
					return render.TransitionJSON(*outcome.Running), nil
				}
				return render.Unfinished(*outcome.Running, time.Now()), nil
			})
		},
	}
}

func parseID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, fmt.Errorf("%q is not the id of a transition: see modectl history", text)
	}
	return id, nil
}

func (c *commands) story(r status.Record) string {
	if c.json {
		return render.FinishedJSON(r)
	}
	return render.Story(r)
}
