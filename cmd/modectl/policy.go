package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/policy"
)

// policy is what an operator does with policies.
func (c *commands) policy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, show, compare or begin a policy",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return exit{exitMisuse, errors.New("policy takes what to do: check, show, diff or init")}
		},
	}
	cmd.AddCommand(c.policyCheck(), c.policyShow(), c.policyDiff(), c.policyInit())
	return cmd
}

// policyCheck needs no daemon: a policy is checked before it is installed.
func (c *commands) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Print all that is wrong with a policy, one line each (exit code 30)",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := c.load(args[0]); err != nil {
				return err
			}
			if c.json {
				return c.print(render.FindingsJSON(nil))
			}
			return c.print(args[0] + " can be used\n")
		},
	}
}

// load reads a policy that has to be there, and prints what is wrong with it.
func (c *commands) load(file string) (policy.Document, error) {
	if _, err := os.Stat(file); err != nil { // no file would be the default policy
		return policy.Document{}, exit{exitMisuse, fmt.Errorf("cannot read the policy: %w", err)}
	}
	d, err := policy.LoadDocument(file)
	findings := policy.Findings(err)
	switch {
	case err == nil:
		return d, nil
	case len(findings) == 0:
		return d, exit{exitMisuse, err}
	case c.json:
		err = c.print(render.FindingsJSON(findings))
	default:
		err = c.print(render.Findings(findings))
	}
	return d, errors.Join(err, exit{exitMisuse, nil})
}

func (c *commands) policyShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Print the policy in force: every key, and where its value comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				p, err := daemon.Policy(cmd.Context())
				if err != nil {
					return "", err
				}
				if c.json {
					return render.PolicyJSON(p), nil
				}
				return render.Policy(p), nil
			})
		},
	}
}

func (c *commands) policyDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff FILE",
		Short: "Print what a policy would change against the one in force",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			next, err := c.load(args[0])
			if err != nil {
				return err
			}
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				p, err := daemon.Policy(cmd.Context())
				if err != nil {
					return "", err
				}
				changes := policy.Diff(p.Settings, next.Settings())
				if c.json {
					return render.DiffJSON(changes), nil
				}
				return render.Diff(changes), nil
			})
		},
	}
}

func (c *commands) policyInit() *cobra.Command {
	var nix bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Print a policy to begin with, from what this host has",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
				e, err := daemon.Observe(cmd.Context())
				if err != nil {
					return "", err
				}
				p, err := policy.Parse("the daemon's policy", []byte(e.Policy))
				if err != nil {
					return "", err
				}
				switch proposal := render.Propose(p, e.Snapshot); {
				case c.json:
					return proposal.JSON(), nil
				case nix:
					return proposal.Nix(), nil
				default:
					return proposal.TOML(), nil
				}
			})
		},
	}
	cmd.Flags().BoolVar(&nix, "nix", false, "print a Nix attribute set")
	return cmd
}
