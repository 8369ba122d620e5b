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

// historyOptions are the flags of `modectl history`, as they were written.
type historyOptions struct {
	since, until, result, mode, by string
	limit                          uint32
	follow                         bool
}

func (c *commands) history() *cobra.Command {
	var o historyOptions
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the transitions that ended, the latest first",
		Long: "List the transitions that ended, the latest first; with --json a line of JSON for each.\n\n" +
			"A time is \"2006-01-02\", \"2006-01-02 15:04\", as in RFC 3339, or how long ago: \"90m\", \"3d\".",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := o.filter(time.Now())
			if err != nil {
				return err
			}
			if o.follow {
				return c.followHistory(cmd.Context(), filter)
			}
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
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
	flags.StringVar(&o.since, "since", "", "those that ended at or after this `TIME`")
	flags.StringVar(&o.until, "until", "", "those that ended before this `TIME`")
	flags.StringVar(&o.result, "result", "", "those that ended with this `RESULT`")
	flags.StringVar(&o.mode, "mode", "", "those that were asked for this `MODE`")
	flags.StringVar(&o.by, "by", "", "those that this `USER` asked for")
	flags.Uint32Var(&o.limit, "limit", busapi.DefaultHistory, "at most `N` transitions")
	flags.BoolVar(&o.follow, "follow", false, "go on with those that end from now on, the latest last")
	return cmd
}

// filter reads the flags. Its errors are misuse.
func (o historyOptions) filter(now time.Time) (status.Filter, error) {
	f := status.Filter{Result: status.Result(o.result), By: o.by, Limit: int(o.limit)}
	if o.limit < 1 || o.limit > busapi.MaxHistory {
		return f, fmt.Errorf("--limit is %d, not 1 to %d", o.limit, busapi.MaxHistory)
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

// parseTime reads a time as a person writes it, in now's zone; an empty one is none.
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
		"%q is no time: write it like \"2006-01-02 15:04\", or how long ago, like \"90m\" or \"3d\"", text,
	)
}

// followHistory prints what there is, the latest last, and then what comes, until
// it is interrupted. It is told of each end and asks for nothing again and again.
func (c *commands) followHistory(ctx context.Context, f status.Filter) error {
	daemon, err := client.Open(ctx, client.Options{})
	if err != nil {
		return failure(err)
	}
	defer daemon.Close()
	// Subscribe first: one that ends in between is told twice, and printed once.
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
				return nil // that is how it ends
			}
			return failure(err)
		}
	}
}

func (c *commands) lastTransition() *cobra.Command {
	return &cobra.Command{
		Use:   "last-transition",
		Short: "Tell how the last transition went",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				p, err := daemon.Properties(cmd.Context())
				if err != nil {
					return "", err
				}
				if p.View.Last != nil {
					// What everybody may read leaves out what this user may.
					outcome, err := daemon.Transition(cmd.Context(), p.View.Last.ID)
					if err != nil {
						return "", err
					}
					if outcome.Finished != nil {
						return c.story(*outcome.Finished), nil
					}
				}
				// None in this boot: the history is older.
				records, err := daemon.History(cmd.Context(), status.Filter{Limit: 1})
				switch {
				case err != nil:
					return "", err
				case len(records) == 0:
					return "", exit{exitMisuse, errors.New("there was no transition yet")}
				}
				return c.story(records[0]), nil
			})
		},
	}
}

func (c *commands) show() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Tell how one transition went: guards, steps, the way back, the end",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("show takes the id of a transition: see modectl history")
			}
			_, err := parseID(args[0])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseID(args[0])
			if err != nil {
				return err
			}
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				outcome, err := daemon.Transition(cmd.Context(), id)
				switch {
				case err != nil:
					return "", err
				case outcome.Finished != nil:
					return c.story(*outcome.Finished), nil
				case outcome.Running == nil:
					return "", fmt.Errorf("the daemon says nothing of transition %d", id)
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
