package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/daemon/status"
)

// terms checks those of a request that were given.
func terms(cmd *cobra.Command, t status.Terms) (status.Terms, error) {
	const most = busapi.MaxTerm * time.Second
	for name, d := range map[string]time.Duration{"for": t.For, "until-idle": t.UntilIdle, "confirm": t.Confirm} {
		if cmd.Flags().Changed(name) && (d < time.Second || d > most || d%time.Second != 0) {
			return t, exit{exitMisuse, fmt.Errorf("--%s takes a whole number of seconds from 1s to %s, not %s", name, most, d)}
		}
	}
	return t, nil
}

func (c *commands) confirm() *cobra.Command {
	var noAskPassword bool
	cmd := &cobra.Command{
		Use:   "confirm [ID]",
		Short: "Let a mode stay that goes back unless it is confirmed",
		Long: "confirm lets the mode stay that request MODE --confirm TIME led to, or that of the transition ID. Other terms\n" +
			"of it stay as they are. Exit codes: 30 nothing waits to be confirmed; 40 not authorized; 42 it is not reached\n" +
			"yet, or its way back is past its point of no return.",
		Args: idArgument("confirm", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			bus, end := c.mayAsk(ctx, noAskPassword)
			defer end()
			return c.ask(ctx, bus, func(daemon *client.Client) (string, error) {
				id, err := unconfirmedID(ctx, daemon, args)
				if err == nil {
					err = daemon.Confirm(ctx, id)
				}
				return fmt.Sprintf("transition %d is confirmed\n", id), err
			})
		},
	}
	cmd.Flags().BoolVar(&noAskPassword, "no-ask-password", false, "do not ask for a password")
	return cmd
}

// unconfirmedID is the id that was given, or that of the transition that waits to be
// confirmed.
func unconfirmedID(ctx context.Context, daemon *client.Client, args []string) (uint64, error) {
	if len(args) > 0 {
		return strconv.ParseUint(args[0], 10, 64)
	}
	p, err := daemon.Properties(ctx)
	switch lease := p.View.Lease; {
	case err != nil:
		return 0, err
	case lease == nil || lease.Confirm == 0:
		return 0, exit{exitMisuse, errors.New("nothing waits to be confirmed")}
	default:
		return lease.ID, nil
	}
}
