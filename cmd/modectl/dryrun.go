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

// dryRun shows what a request would do, and does nothing.
func (c *commands) dryRun() *cobra.Command {
	var asDot bool
	cmd := &cobra.Command{
		Use:   "dry-run MODE",
		Short: "Show what a request for a mode would do, and do nothing",
		Long: "dry-run has the daemon look afresh and prints what a request for MODE would do: what its guards say,\n" +
			"its steps with what undoes them, the sessions that would end, the units that would stop and start, who\n" +
			"has to let go of a display GPU, and how long it took before. The windows of your own session are asked\n" +
			"of its compositor (Hyprland or sway) by modectl itself, and told to nobody.\n\n" +
			"The fingerprint that it prints makes `modectl request MODE --plan FINGERPRINT` do exactly this, or nothing.\n\n" +
			"The exit code is 0 when it would run, else that of the first guard that stands in the way, as with guards.",
		Args:      modeFor("dry-run"),
		ValidArgs: modeWords(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asDot && c.json {
				return errors.New("dry-run prints --json or --dot, not both")
			}
			return c.runDryRun(cmd.Context(), policy.Mode(args[0]), asDot)
		},
	}
	cmd.Flags().BoolVar(&asDot, "dot", false, "print a graph for Graphviz")
	return cmd
}

func (c *commands) runDryRun(ctx context.Context, mode policy.Mode, asDot bool) error {
	var preview status.Preview
	err := c.ask(ctx, client.Options{}, func(daemon *client.Client) (_ string, err error) {
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
	return letBy(preview.Guards)
}

// ownWindows are the windows of the caller's own session, where it is one of those
// that end. That the environment names a compositor says which one to ask.
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
