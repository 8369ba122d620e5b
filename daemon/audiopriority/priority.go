// Package audiopriority holds what keeps audio latency low for as long as
// studio-local lasts: the processors' latency, the power profile, and PipeWire's
// quantum for each person at a screen.
//
// Each is held by something that ends with the process, however it ends: a
// descriptor, a connection to the bus, a unit that is bound to this one. Nothing
// has to be put back by it, so that nothing is left behind when it is killed.
//
// Failure semantics: Run is ready only when all that policy asks for is held; what
// the machine has no service for is said and not missed. What cannot be held is an
// error, and what was held is let go with the process.
package audiopriority

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/policy"
)

// Device is where the kernel takes the latency from.
const Device = "/dev/cpu_dma_latency"

// Options are what Run works with.
type Options struct {
	Studio policy.Studio
	// Device is a file like Device.
	Device string
	// Bus looks at sessions, starts units, and holds the power profile for as long as
	// it is connected.
	Bus *busconn.Bus
	// Ready is called once, when all is held, with what that is.
	Ready func(held string) error
	Log   *zap.Logger
}

// Run holds what policy asks for until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	var held []string
	if latency := o.Studio.CPUDMALatency; latency >= 0 {
		f, err := holdLatency(o.Device, latency)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		held = append(held, fmt.Sprintf("a latency of %d µs", latency))
	}
	profile := powerProfile{o.Bus, o.Studio.PowerProfile, o.Log}
	keepProfile, said, err := profile.hold(ctx)
	if err != nil {
		return err
	}
	held = append(held, said...)
	q := quanta{bus: o.Bus, samples: o.Studio.Quantum, log: o.Log, held: map[uint32]bool{}}
	keepQuanta, said, err := q.hold(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.release(ctx)) }()
	held = append(held, said...)
	if len(held) == 0 {
		held = []string{"nothing, as policy has it"}
	}
	if err := o.Ready("held: " + strings.Join(held, ", ")); err != nil {
		return fmt.Errorf("cannot tell that all is held: %w", err)
	}
	return keep(ctx, keepProfile, keepQuanta)
}

// keep runs what keeps something held until ctx ends or one of them cannot.
func keep(ctx context.Context, keepers ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(keepers))
	for _, k := range keepers {
		go func() { ended <- k(ctx) }()
	}
	var first error
	for range keepers {
		if err := <-ended; err != nil && first == nil {
			first = err
		}
		cancel()
	}
	return first
}

// idle keeps what needs no keeping.
func idle(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// holdLatency keeps the processors out of sleep states that take longer to leave,
// for as long as the file is open (Documentation/power/pm_qos_interface.rst).
func holdLatency(device string, microseconds int) (*os.File, error) {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot hold the CPU latency: %w", err)
	}
	if err := binary.Write(f, binary.NativeEndian, int32(microseconds)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot hold the CPU latency: %w", err), f.Close())
	}
	return f, nil
}

// patience bounds what is done once ctx has ended.
const patience = 10 * time.Second
