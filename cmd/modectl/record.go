package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/internal/errtext"
	"github.com/dubnium/dubnium/observer/recording"
)

// record writes snapshots as they change, until it is interrupted. Each one is a fresh
// snapshot of the daemon, which root alone gets unredacted and without a rate limit.
func (c *commands) record() *cobra.Command {
	return &cobra.Command{
		Use:   "record FILE",
		Short: "Record snapshots of the host as they change (root)",
		Long: "record writes snapshots of the host to a new FILE as they change, until it is\n" +
			"interrupted. `dubniumd replay` classifies them again. It needs root: snapshots\n" +
			"include the processes of all users.",
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			daemon, err := client.Open(cmd.Context(), client.Options{})
			if err != nil {
				return failure(err)
			}
			defer daemon.Close()
			count, err := record(cmd.Context(), daemon, args[0])
			if err != nil && !(errors.Is(err, client.ErrStopped) && count > 0) {
				return failure(err)
			}
			return c.print(fmt.Sprintf("recorded %d snapshots in %s\n", count, args[0]))
		},
	}
}

var errRedacted = errors.New("recording needs root: it includes other users' processes")

// record returns the number of snapshots that it wrote, and why it ended.
func record(ctx context.Context, daemon *client.Client, path string) (count int, err error) {
	if err := daemon.Follow(ctx); err != nil {
		return 0, err
	}
	first, err := daemon.Observe(ctx)
	if err != nil {
		return 0, err
	}
	if first.Redacted {
		return 0, exit{exitNotAuthorized, errRedacted}
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("cannot record to %s", errtext.Of(err))
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w, err := recording.NewWriter(file, first.Policy, first.Observation.At.UTC())
	for e := first; err == nil; {
		var wrote bool
		if wrote, err = w.Add(recording.NewEntry(e.Observation, e.Snapshot)); wrote {
			count++
		}
		if err == nil {
			err = daemon.Changed(ctx)
		}
		if err == nil {
			e, err = daemon.Observe(ctx)
		}
	}
	return count, err
}
