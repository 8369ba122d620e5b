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
		Short: "Check the installation and print remedies",
		Long: "doctor checks the installation and prints a remedy for each problem. It changes\n" +
			"nothing. Without the daemon it runs the checks that do not need it.\n\n" +
			"Exit codes: 0 no check fails, warnings or not; 41 the daemon is not reachable;\n" +
			"51 another check fails.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.examine(cmd.Context(), func(ctx context.Context) doctor.Facts { return gather.Facts(ctx, file) })
		},
	}
	cmd.Flags().StringVar(&file, "policy", "/etc/dubnium/policy.toml", "the policy `FILE` to check without a daemon")
	return cmd
}

// examine prints the verdict on the facts.
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
		return exit{exitNotReachable, nil} // the report says why
	case report.Count(doctor.Failure) > 0:
		return exit{exitFailed, nil}
	}
	return nil
}
