package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/observer/recording"
)

// record writes what the daemon sees as it changes, until it is interrupted. Each
// change is one fresh look, which only root may have as often as there are
// changes, and only root's is not redacted.
func (c *commands) record() *cobra.Command {
	return &cobra.Command{
		Use:   "record FILE",
		Short: "Record what is seen as it changes, until interrupted",
		Long:  "record writes what is seen as it changes into a new FILE, until interrupted.\n`dubniumd replay` classifies it again. Only root can: it names everybody's processes.",
		Args:  cobra.ExactArgs(1),
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

var errRedacted = errors.New("cannot record: what other people's processes are is told to root only")

// record returns how many snapshots it wrote; its error says why it ended.
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
		return 0, fmt.Errorf("cannot record: %w", err)
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
