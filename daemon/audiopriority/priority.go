// Package audiopriority keeps audio latency low during studio-local: it holds the CPU
// latency, the power profile, and PipeWire's quantum for each user with a graphical
// session.
//
// Each is bound to something that ends with the process, however it ends: a file
// descriptor, a connection to the bus, a unit with BindsTo=. Nothing has to be restored,
// so nothing is left behind if the process is killed.
//
// Failure semantics: Run calls Ready only when everything that the policy requires is
// held. A machine without a service for power profiles is reported and is no error.
// Anything else that cannot be held is an error; what is held is released when the
// process exits.
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

// Device is the kernel's file for the CPU latency.
const Device = "/dev/cpu_dma_latency"

// Options configure Run.
type Options struct {
	Studio policy.Studio
	// Device is the path of a file like Device.
	Device string
	// Bus is used to read sessions, to start units, and to hold the power profile, which
	// the service releases when the connection ends.
	Bus *busconn.Bus
	// Ready is called once, when everything is held, with a line that lists it.
	Ready func(held string) error
	Log   *zap.Logger
}

// Run holds what the policy requires until ctx ends.
func Run(ctx context.Context, o Options) (err error) {
	var held []string
	if latency := o.Studio.CPUDMALatency; latency >= 0 {
		f, err := holdLatency(o.Device, latency)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		held = append(held, fmt.Sprintf("CPU latency %d µs", latency))
	}
	profile := powerProfile{o.Bus, o.Studio.PowerProfile, o.Log}
	watchProfile, what, err := profile.hold(ctx)
	if err != nil {
		return err
	}
	held = append(held, what...)
	q := quanta{bus: o.Bus, samples: o.Studio.Quantum, log: o.Log, held: map[uint32]bool{}}
	watchSessions, what, err := q.hold(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.release(ctx)) }()
	held = append(held, what...)
	if len(held) == 0 {
		held = []string{"nothing, by the policy"}
	}
	if err := o.Ready("held: " + strings.Join(held, ", ")); err != nil {
		return fmt.Errorf("cannot report readiness: %w", err)
	}
	return runAll(ctx, watchProfile, watchSessions)
}

// runAll runs the functions until ctx ends or one of them returns, and then ends the
// others. It returns the first error.
func runAll(ctx context.Context, run ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(run))
	for _, f := range run {
		go func() { ended <- f(ctx) }()
	}
	var first error
	for range run {
		if err := <-ended; err != nil && first == nil {
			first = err
		}
		cancel()
	}
	return first
}

// untilDone waits for the end of ctx, for what needs no watching.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// holdLatency keeps the processors out of idle states with a longer exit latency, for as
// long as the file is open (Documentation/power/pm_qos_interface.rst).
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

// callTimeout bounds each call to PipeWire or the power profile service, and the release
// of the quanta after ctx has ended.
const callTimeout = 10 * time.Second
