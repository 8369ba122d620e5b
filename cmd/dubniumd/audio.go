package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
)

// holdAudioPriority keeps the CPUs out of deep sleep states while studio-local
// lasts: the kernel honours a value written to /dev/cpu_dma_latency for as long
// as the descriptor is open (Documentation/power/pm_qos_interface.rst), so that
// nothing is left behind however this process ends.
func holdAudioPriority(ctx context.Context, device string) (err error) {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot hold the CPU latency: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const microseconds = 0
	if err := binary.Write(f, binary.NativeEndian, int32(microseconds)); err != nil {
		return fmt.Errorf("cannot hold the CPU latency: %w", err)
	}
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS=CPU latency is held"); err != nil {
		return fmt.Errorf("cannot tell systemd that the latency is held: %w", err)
	}
	<-ctx.Done()
	return nil
}
