package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/godbus/dbus/v5"
	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/daemon/audiopriority"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/policy"
)

// inForce is the policy that the daemon goes by: the file in /etc may have been
// refused, or may not have been reloaded yet.
const inForce = "/run/mode-controller/policy.toml"

func audioPriorityCommand() *cobra.Command {
	var policyFile, device string
	cmd := &cobra.Command{
		Use:   "audio-priority",
		Short: "Hold what keeps audio latency low, until told to end",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return holdAudioPriority(cmd.Context(), policyFile, device)
		},
	}
	cmd.Flags().StringVar(&policyFile, "policy", inForce, "the policy `FILE`")
	cmd.Flags().StringVar(&device, "device", audiopriority.Device, "where the kernel's `FILE` for the latency is, for tests")
	_ = cmd.Flags().MarkHidden("device") // it is there
	return cmd
}

func holdAudioPriority(ctx context.Context, policyFile, device string) error {
	p, err := policy.Load(policyFile)
	if err != nil {
		return err
	}
	log := newLog()
	bus, err := busconn.Connect()
	if err != nil {
		return err
	}
	defer bus.Close()
	profiles, err := dbus.ConnectSystemBus()
	if err != nil {
		return fmt.Errorf("cannot connect to the system bus: %w", err)
	}
	defer profiles.Close()
	return audiopriority.Run(ctx, audiopriority.Options{
		Studio: p.Studio, Device: device, Bus: bus, Profiles: profiles, Log: log,
		Ready: func(held string) error {
			log.Info(held)
			return tellReady(held)
		},
	})
}

func tellReady(status string) error {
	_, err := sd.SdNotify(false, sd.SdNotifyReady+"\nSTATUS="+status)
	return err
}

// quantumCommand is what dubnium-quantum@UID.service runs as that user: hold while
// it is up, and release after whatever end.
func quantumCommand() *cobra.Command {
	var policyFile string
	q := audiopriority.Quantum{Command: "pw-metadata"}
	cmd := &cobra.Command{
		Use: "quantum", Short: "Force the quantum of this user's PipeWire", Args: cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			dir := os.Getenv("RUNTIME_DIRECTORY")
			if dir == "" {
				return fmt.Errorf("cannot tell where to note what the quantum was: RUNTIME_DIRECTORY is not set")
			}
			q.Note = filepath.Join(dir, "before.json")
			return nil
		},
	}
	hold := &cobra.Command{
		Use: "hold", Short: "Hold the policy's quantum, until told to end", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := policy.Load(policyFile)
			if err != nil {
				return err
			}
			if p.Studio.Quantum == 0 {
				return fmt.Errorf("the policy has no studio.quantum")
			}
			return q.Hold(cmd.Context(), p.Studio.Quantum, func() error {
				return tellReady(fmt.Sprintf("PipeWire's quantum is %d", p.Studio.Quantum))
			})
		},
	}
	hold.Flags().StringVar(&policyFile, "policy", inForce, "the policy `FILE`")
	release := &cobra.Command{
		Use: "release", Short: "Put back what was there before", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			said, err := q.Release(cmd.Context())
			fmt.Fprintln(cmd.ErrOrStderr(), said)
			return err
		},
	}
	cmd.AddCommand(hold, release)
	return cmd
}
