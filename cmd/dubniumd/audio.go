package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/audiopriority"
	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/policy"
)

// inForce is the policy that the daemon goes by: the file in /etc may have been
// refused, or may not have been reloaded yet.
const inForce = "/run/mode-controller/policy.toml"

func audioPriorityCommand() *cobra.Command {
	var policyFile, device string
	cmd := newCommand("audio-priority", "Hold what keeps audio latency low, until told to end",
		func(ctx context.Context, _ io.Writer, _ []string) error {
			return holdAudioPriority(ctx, policyFile, device)
		})
	policyFlag(cmd, &policyFile, inForce)
	cmd.Flags().StringVar(&device, "device", audiopriority.Device, "the kernel's `FILE` for the latency")
	hideFlag(cmd, "device")
	return cmd
}

func holdAudioPriority(ctx context.Context, policyFile, device string) error {
	p, err := policy.Load(policyFile)
	if err != nil {
		return err
	}
	log := newLog()
	bus, err := busconn.Connect(busapi.AudioPriorityName)
	if err != nil {
		return err
	}
	defer bus.Close()
	return audiopriority.Run(ctx, audiopriority.Options{
		Studio: p.Studio, Device: device, Bus: bus, Log: log,
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

// ourQuantum is what dubnium-quantum@UID.service, running as that user, holds while
// it is up, and releases after whatever end.
func ourQuantum() (audiopriority.Quantum, error) {
	dir := os.Getenv("RUNTIME_DIRECTORY")
	if dir == "" {
		return audiopriority.Quantum{},
			errors.New("cannot tell where to note what the quantum was: RUNTIME_DIRECTORY is not set")
	}
	return audiopriority.Quantum{Command: "pw-metadata", Note: filepath.Join(dir, "before.json")}, nil
}

func quantumCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quantum",
		Short: "Hold or release the quantum of this user's PipeWire",
		Args:  noCommand,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("quantum takes what to do: hold or release")
		},
	}
	cmd.AddCommand(holdQuantumCommand(), releaseQuantumCommand())
	return cmd
}

func holdQuantumCommand() *cobra.Command {
	var policyFile string
	cmd := newCommand("hold", "Hold the policy's quantum, until told to end",
		func(ctx context.Context, _ io.Writer, _ []string) error {
			return holdQuantum(ctx, policyFile)
		})
	policyFlag(cmd, &policyFile, inForce)
	return cmd
}

func holdQuantum(ctx context.Context, policyFile string) error {
	q, err := ourQuantum()
	if err != nil {
		return err
	}
	p, err := policy.Load(policyFile)
	if err != nil {
		return err
	}
	if p.Studio.Quantum == 0 {
		return errors.New("the policy has no studio.quantum")
	}
	return q.Hold(ctx, p.Studio.Quantum, func() error {
		return tellReady(fmt.Sprintf("PipeWire's quantum is %d", p.Studio.Quantum))
	})
}

func releaseQuantumCommand() *cobra.Command {
	return newCommand("release", "Put back the quantum from before",
		func(ctx context.Context, _ io.Writer, _ []string) error {
			q, err := ourQuantum()
			if err != nil {
				return err
			}
			said, err := q.Release(ctx)
			fmt.Fprintln(os.Stderr, said)
			return err
		})
}
