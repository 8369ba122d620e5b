package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/dubnium/dubnium/daemon/sessionend"
	"github.com/dubnium/dubnium/policy"
)

// sessionEndCommand is what dubnium-session-end@UID.service runs, as the user whose
// session is to end.
func sessionEndCommand() *command {
	var policyFile, runtime string
	c := newCommand("session-end", "Ask this user's graphical session to end, by the policy's hook")
	c.flag(&policyFile, "policy", inForce, "the policy `FILE`", false)
	c.flag(&runtime, "runtime", fmt.Sprintf("/run/user/%d", os.Getuid()), "the user's runtime `DIRECTORY`", false)
	c.run = func(context.Context, io.Writer, []string) error {
		// What dubniumd wrote down as in force: only root can write there. None at all is
		// not a policy without a hook.
		if _, err := os.Stat(policyFile); err != nil {
			return fmt.Errorf("cannot read the policy in force: %w", err)
		}
		p, err := policy.Load(policyFile)
		if err != nil {
			return err
		}
		return sessionend.Run(p, runtime, os.Environ())
	}
	return c
}
