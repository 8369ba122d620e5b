package main

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// dryRun shows the plan of a request without making it.
func (c *commands) dryRun() *cobra.Command {
	var asDot bool
	cmd := &cobra.Command{
		Use:   "dry-run MODE",
		Short: "Show the plan of a request for a mode, and change nothing",
		Long: "dry-run reads the host again and prints what a request for MODE would do: the\n" +
			"verdicts of its guards, its steps and their undo, the sessions that would end,\n" +
			"the units that would stop and start, the processes using a display GPU, and the\n" +
			"duration of earlier transitions like it. modectl itself reads the windows of\n" +
			"your session from its compositor (Hyprland or sway); it sends them nowhere.\n\n" +
			"`modectl request MODE --plan FINGERPRINT` runs exactly this plan, or nothing.\n\n" +
			"Exit codes: 0 no guard blocks; else the code of the first guard that does, as\n" +
			"with guards.",
		Args:      modeFor("dry-run"),
		ValidArgs: modeWords(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asDot && c.json {
				return errors.New("--json and --dot exclude each other")
			}
			return c.runDryRun(cmd.Context(), policy.Mode(args[0]), asDot)
		},
	}
	cmd.Flags().BoolVar(&asDot, "dot", false, "print a graph for Graphviz")
	return cmd
}

func (c *commands) runDryRun(ctx context.Context, mode policy.Mode, asDot bool) error {
	var preview status.Preview
	err := c.query(ctx, client.Options{}, func(daemon *client.Client) (_ string, err error) {
		if preview, err = daemon.Plan(ctx, mode); err != nil {
			return "", err
		}
		switch {
		case asDot:
			return render.PlanDot(preview), nil
		case c.json:
			return render.PlanJSON(preview, ownWindows(ctx, preview.Sessions)), nil
		}
		return render.Plan(preview, ownWindows(ctx, preview.Sessions)), nil
	})
	if err != nil {
		return err
	}
	return blockedExit(preview.Guards)
}

// ownWindows returns the windows of the caller's session if the plan ends it. nil:
// it does not, or the environment names no compositor.
func ownWindows(ctx context.Context, ending []observer.Session) *render.Windows {
	uid := uint32(os.Getuid())
	if !slices.ContainsFunc(
		ending, func(s observer.Session) bool { return s.UID == uid && s.Kind() != observer.KindGreeter },
	) {
		return nil
	}
	compositor := compositorOf(os.Getenv)
	if compositor == nil {
		return nil
	}
	windows, err := compositor.windows(ctx)
	if err != nil {
		return &render.Windows{UID: uid, Fault: err.Error()}
	}
	return &render.Windows{UID: uid, List: windows}
}
