// Command dubnium-gpu-probe is the eye of dubniumd that looks through NVML. It
// stands apart from dubnium-probe because it is linked with C, which a machine
// without an NVIDIA GPU needs for nothing.
//
// It serves and ends as dubnium-probe does: one JSON document to everybody who
// connects to the socket that systemd passed, or one to its standard output. A
// document that says why there is no answer is written even when looking failed;
// a look that hangs in the driver ends the process with nothing said. The exit
// code of a look that failed is 1, of misuse 30.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/dubnium/dubnium/internal/probeserver"
	"github.com/dubnium/dubnium/observer/gpu/probe"
)

const (
	name = "dubnium-gpu-probe"
	// misuse is the exit code of a wrong command line, as in modectl.
	misuse = 30
	// nixOS is where the driver's library is on NixOS, which has no list of
	// libraries for the dynamic linker to search.
	nixOS = "/run/opengl-driver/lib/libnvidia-ml.so.1"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

func run(ctx context.Context, args []string, out, complaints io.Writer) int {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(complaints)
	var o probe.Options
	library := flags.String("library", "", "the driver's `LIBRARY` (default libnvidia-ml.so.1, then "+nixOS+")")
	flags.StringVar(&o.Proc, "proc", "/proc", "the process `DIR`ectory")
	flags.StringVar(&o.Lock, "lock", "/run/dubnium/gpu.lock", "the `FILE` that is locked while NVML is asked")
	limit := flags.Duration("limit", probeserver.LookBound, "how long a look may take before the process ends")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return misuse // flags has said what is wrong
	case flags.NArg() > 0:
		fmt.Fprintf(complaints, "%s: unexpected argument %q\n", name, flags.Arg(0))
		return misuse
	}
	o.Libraries = []string{"libnvidia-ml.so.1", nixOS}
	if *library != "" {
		o.Libraries = []string{*library}
	}
	served := probeserver.Probe{
		Name: name, Idle: probeserver.Idle, LookBound: *limit, Stderr: complaints,
		Collect: func(context.Context) (any, error) { return probe.Look(o) },
	}
	if err := served.Run(ctx, out); err != nil {
		fmt.Fprintf(complaints, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
