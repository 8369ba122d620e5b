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

// inForce is the file of the policy in force: the one in /etc may have been rejected, or
// not reloaded yet.
const inForce = "/run/mode-controller/policy.toml"

func audioPriorityCommand() *cobra.Command {
	var policyFile, device string
	cmd := newCommand("audio-priority", "Keep audio latency low until terminated",
		func(ctx context.Context, _ io.Writer, _ []string) error {
			return holdAudioPriority(ctx, policyFile, device)
		})
	policyFlag(cmd, &policyFile, inForce)
	cmd.Flags().StringVar(&device, "device", audiopriority.Device, "the kernel's `FILE` for the CPU latency")
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
			return notifyReady(held)
		},
	})
}

func notifyReady(status string) error {
	_, err := sd.SdNotify(false, sd.SdNotifyReady+"\nSTATUS="+status)
	return err
}

// newQuantum returns the quantum of the user that dubnium-quantum@UID.service runs as.
// The unit holds it while it is active, and releases it in ExecStopPost=.
func newQuantum() (audiopriority.Quantum, error) {
	dir := os.Getenv("RUNTIME_DIRECTORY")
	if dir == "" {
		return audiopriority.Quantum{},
			errors.New("cannot save the previous quantum: RUNTIME_DIRECTORY is not set")
	}
	return audiopriority.Quantum{Command: "pw-metadata", Note: filepath.Join(dir, "before.json")}, nil
}

func quantumCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quantum",
		Short: "Hold or release the quantum of this user's PipeWire",
		Args:  noCommand,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("quantum needs a command: hold or release")
		},
	}
	cmd.AddCommand(holdQuantumCommand(), releaseQuantumCommand())
	return cmd
}

func holdQuantumCommand() *cobra.Command {
	var policyFile string
	cmd := newCommand("hold", "Force the policy's quantum until terminated",
		func(ctx context.Context, _ io.Writer, _ []string) error {
			return holdQuantum(ctx, policyFile)
		})
	policyFlag(cmd, &policyFile, inForce)
	return cmd
}

func holdQuantum(ctx context.Context, policyFile string) error {
	q, err := newQuantum()
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
		return notifyReady(fmt.Sprintf("PipeWire's quantum is %d", p.Studio.Quantum))
	})
}

func releaseQuantumCommand() *cobra.Command {
	return newCommand("release", "Restore the previous quantum",
		func(ctx context.Context, _ io.Writer, _ []string) error {
			q, err := newQuantum()
			if err != nil {
				return err
			}
			outcome, err := q.Release(ctx)
			fmt.Fprintln(os.Stderr, outcome)
			return err
		})
}
