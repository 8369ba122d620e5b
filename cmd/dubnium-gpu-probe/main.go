// Command dubnium-gpu-probe reads NVML for dubniumd. It is a program of its own because it is linked
// with C, which a machine without an NVIDIA GPU does not need.
//
// It serves as dubnium-probe does: one JSON document to each connection to the socket that systemd
// passed, or one to its standard output. If a read fails, the document contains the error, and
// without a socket the exit code is 1. A read that hangs in the driver ends the process without an
// answer. A wrong command line exits with 30.
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
	// nixOS is the path of the driver's library on NixOS, where the dynamic linker does not
	// find it by name.
	nixOS = "/run/opengl-driver/lib/libnvidia-ml.so.1"
)

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

func run(ctx context.Context, args []string, out, stderr io.Writer) int {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(stderr)
	var o probe.Options
	library := flags.String("library", "", "the driver's `LIBRARY` (default libnvidia-ml.so.1, then "+nixOS+")")
	flags.StringVar(&o.Proc, "proc", "/proc", "the process `DIR`ectory")
	flags.StringVar(&o.Lock, "lock", "/run/dubnium/gpu.lock", "the `FILE` that is locked while NVML is read")
	limit := flags.Duration("limit", probeserver.ReadBound, "how long a read may take before the process ends")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return misuse // Parse has printed the error
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%s: unexpected argument %q\n", name, flags.Arg(0))
		return misuse
	}
	o.Libraries = []string{"libnvidia-ml.so.1", nixOS}
	if *library != "" {
		o.Libraries = []string{*library}
	}
	served := probeserver.Probe{
		Name: name, Idle: probeserver.Idle, ReadBound: *limit, Stderr: stderr,
		Collect: func(context.Context) (any, error) { return probe.Read(o) },
	}
	if err := served.Run(ctx, out); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}
