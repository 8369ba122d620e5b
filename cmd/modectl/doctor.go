package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/internal/doctor"
	"github.com/dubnium/dubnium/internal/doctor/gather"
)

func (c *commands) doctor() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the installation, and say what to do about what is wrong",
		Long: "Check the installation against the host, and say what to do about what is wrong. It\n" +
			"changes nothing, and works without the daemon as far as that goes.\n\n" +
			"Exit codes: 0 nothing fails, whatever there is to warn of; 41 the daemon cannot be\n" +
			"reached; 51 something else fails.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.examine(cmd.Context(), func(ctx context.Context) doctor.Facts { return gather.Facts(ctx, file) })
		},
	}
	cmd.Flags().StringVar(&file, "policy", "/etc/dubnium/policy.toml", "the policy `FILE` while no daemon says which")
	return cmd
}

// examine prints what the facts come to.
func (c *commands) examine(ctx context.Context, facts func(context.Context) doctor.Facts) error {
	f := facts(ctx)
	report := doctor.Examine(f)
	text := render.Doctor(report)
	if c.json {
		text = render.DoctorJSON(report)
	}
	if err := c.print(text); err != nil {
		return err
	}
	switch {
	case f.BusErr != "" || f.Daemon.Err != "":
		return exit{exitNotReachable, nil} // what was printed says why
	case report.Count(doctor.Failure) > 0:
		return exit{exitFailed, nil}
	}
	return nil
}
