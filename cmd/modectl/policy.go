package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/internal/errtext"
	"github.com/dubnium/dubnium/policy"
)

// policy groups the commands about policy files.
func (c *commands) policy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check, show, compare or create a policy",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args)
			}
			return errors.New("policy needs a command: check, show, diff or init")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(c.policyCheck(), c.policyShow(), c.policyDiff(), c.policyInit())
	return cmd
}

// policyCheck works without a daemon, so that a policy can be checked before it is
// installed.
func (c *commands) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Print every fault of a policy, a line each (exit code 30)",
		Args:  oneFile,
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := c.load(args[0]); err != nil {
				return err
			}
			if c.json {
				return c.print(render.FindingsJSON(nil))
			}
			return c.print(args[0] + ": valid\n")
		},
	}
}

// load reads a policy file and prints its faults. A missing file is an error here; for
// the daemon it means the default policy.
func (c *commands) load(file string) (policy.Document, error) {
	if _, err := os.Stat(file); err != nil {
		return policy.Document{}, exit{exitMisuse, fmt.Errorf("cannot read the policy %s", errtext.Of(err))}
	}
	d, err := policy.LoadDocument(file)
	findings := policy.Findings(err)
	switch {
	case err == nil:
		return d, nil
	case len(findings) == 0:
		return d, exit{exitMisuse, fmt.Errorf("cannot read the policy %s", errtext.Of(err))}
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
		Short: "Print the policy in force, with the origin of each value",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
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
		Short: "Print what a policy would change in the one in force",
		Args:  oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			next, err := c.load(args[0])
			if err != nil {
				return err
			}
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
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
		Short: "Print a first policy for this host",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.query(cmd.Context(), client.Options{}, func(daemon *client.Client) (string, error) {
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
