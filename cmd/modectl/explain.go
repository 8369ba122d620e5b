package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// explain says which facts decided the state, and which stand against the modes.
func (c *commands) explain() *cobra.Command {
	var whyNot string
	cmd := &cobra.Command{
		Use:   "explain [MODE]",
		Short: "Say which facts make the state what it is, and which stand against the modes",
		Long: "explain says which facts make the state what it is, and which stand against the modes. Of one MODE\n" +
			"it prints the contract too, as the policy has it: target, units, promises, guards, whose the GPUs, processors,\n" +
			"memory, storage and audio are, latency and security posture, placement.",
		ValidArgs: modeWords(),
		Args:      cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			word := whyNot
			if len(args) > 0 {
				if whyNot != "" {
					return errors.New("explain takes a mode or --why-not, not both")
				}
				word = args[0]
			}
			mode := policy.Mode(word)
			if word != "" {
				if _, err := policy.ParseMode(word); err != nil {
					return exit{exitMisuse, err}
				}
			}
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				e, err := daemon.Explain(cmd.Context(), mode)
				if err != nil {
					return "", err
				}
				return c.explanation(e, whyNot != ""), nil
			})
		},
	}
	cmd.Flags().StringVar(&whyNot, "why-not", "", "only what stands against `MODE`")
	return cmd
}

func (c *commands) explanation(e observer.Explanation, whyNot bool) string {
	switch {
	case c.json:
		return render.ExplanationJSON(e)
	case whyNot:
		return render.WhyNot(e)
	}
	return render.Explanation(e)
}
