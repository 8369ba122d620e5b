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

// parseTerms checks the terms of a request that were given.
func parseTerms(cmd *cobra.Command, t status.Terms) (status.Terms, error) {
	const most = busapi.MaxTerm * time.Second
	for name, d := range map[string]time.Duration{"for": t.For, "until-idle": t.UntilIdle, "confirm": t.Confirm} {
		if cmd.Flags().Changed(name) && (d < time.Second || d > most || d%time.Second != 0) {
			return t, exit{
				exitMisuse, fmt.Errorf("--%s must be whole seconds from 1s to %s, not %s", name, most, d),
			}
		}
	}
	return t, nil
}

func (c *commands) confirm() *cobra.Command {
	var noAskPassword bool
	cmd := &cobra.Command{
		Use:   "confirm [ID]",
		Short: "Keep a mode that was requested with --confirm",
		Long: "confirm keeps a mode that was requested with --confirm: that of the current\n" +
			"lease, or that of the transition ID. Its other terms are not changed.\n\n" +
			"Exit codes: 30 no mode waits for confirmation; 40 not authorized; 42 the mode is\n" +
			"not reached yet, or the transition back is past its point of no return.",
		Args: idArgument("confirm", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			bus, stopAgent := c.authentication(ctx, noAskPassword)
			defer stopAgent()
			return c.query(ctx, bus, func(daemon *client.Client) (string, error) {
				id, err := unconfirmedID(ctx, daemon, args)
				if err == nil {
					err = daemon.Confirm(ctx, id)
				}
				return fmt.Sprintf("transition %d is confirmed\n", id), err
			})
		},
	}
	cmd.Flags().BoolVar(&noAskPassword, "no-ask-password", false, "never prompt for a password")
	return cmd
}

// unconfirmedID is the id of the arguments, or that of the lease that waits for
// confirmation.
func unconfirmedID(ctx context.Context, daemon *client.Client, args []string) (uint64, error) {
	if len(args) > 0 {
		return strconv.ParseUint(args[0], 10, 64)
	}
	p, err := daemon.Properties(ctx)
	switch lease := p.View.Lease; {
	case err != nil:
		return 0, err
	case lease == nil || lease.Confirm == 0:
		return 0, exit{exitMisuse, errors.New("no mode waits for confirmation")}
	default:
		return lease.ID, nil
	}
}
