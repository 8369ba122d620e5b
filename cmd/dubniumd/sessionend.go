package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/daemon/sessionend"
	"github.com/dubnium/dubnium/policy"
)

// sessionEndCommand is the command of dubnium-session-end@UID.service, which runs as the
// user whose session is to end.
func sessionEndCommand() *cobra.Command {
	var policyFile, runtime string
	cmd := newCommand("session-end", "Run the policy's hook that ends this user's graphical session",
		func(context.Context, io.Writer, []string) error {
			// The file of the policy in force, which only root can write. A missing file is an
			// error, not a policy without a hook.
			if _, err := os.Stat(policyFile); err != nil {
				return fmt.Errorf("cannot read the policy in force: %w", err)
			}
			p, err := policy.Load(policyFile)
			if err != nil {
				return err
			}
			return sessionend.Run(p, runtime, os.Environ())
		})
	policyFlag(cmd, &policyFile, inForce)
	cmd.Flags().StringVar(&runtime, "runtime", fmt.Sprintf("/run/user/%d", os.Getuid()), "runtime `DIR` of the user")
	return cmd
}
