package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// explain shows the facts that decided the state, and those that contradict a mode.
func (c *commands) explain() *cobra.Command {
	var whyNot string
	cmd := &cobra.Command{
		Use:   "explain [MODE]",
		Short: "Explain the current state, and what rules out each mode",
		Long: "explain explains the current state, and what keeps the host out of each mode.\n" +
			"With MODE it also prints the contract of the mode: target, units, promises,\n" +
			"guards, the owners of GPUs, processors, memory, storage and audio, latency,\n" +
			"security, and placement.",
		ValidArgs: modeWords(),
		Args:      atMostOneArgument,
		RunE: func(cmd *cobra.Command, args []string) error {
			word := whyNot
			if len(args) > 0 {
				if whyNot != "" {
					return errors.New("MODE and --why-not exclude each other")
				}
				word = args[0]
			}
			mode := policy.Mode(word)
			if word != "" {
				if _, err := policy.ParseMode(word); err != nil {
					return exit{exitMisuse, err}
				}
			}
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				e, err := daemon.Explain(cmd.Context(), mode)
				if err != nil {
					return "", err
				}
				return c.explanation(e, whyNot != ""), nil
			})
		},
	}
	cmd.Flags().StringVar(&whyNot, "why-not", "", "only what keeps the host out of `MODE`")
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
