package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/daemon/sessionend"
	"github.com/dubnium/dubnium/policy"
)

// sessionEndCommand is what dubnium-session-end@UID.service runs, as the user whose
// session is to end.
func sessionEndCommand() *cobra.Command {
	var policyFile, runtime string
	cmd := &cobra.Command{
		Use:   "session-end",
		Short: "Ask this user's graphical session to end, by the policy's hook",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			// What dubniumd wrote down as in force: only root can write there.
			p, err := policy.Load(policyFile)
			if err != nil {
				return err
			}
			return sessionend.Run(p, runtime, os.Environ())
		},
	}
	cmd.Flags().StringVar(&policyFile, "policy", inForce, "the policy `FILE`")
	cmd.Flags().StringVar(&runtime, "runtime", fmt.Sprintf("/run/user/%d", os.Getuid()), "the user's runtime `DIRECTORY`")
	return cmd
}
