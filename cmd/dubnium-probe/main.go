// Command dubnium-probe reads for dubniumd what needs privileges or is untrusted, and writes it as
// one JSON document.
//
// If systemd passed a socket, it writes a document to each connection and ends after a time without
// one; the next connection starts it again. Without a socket it writes one document to the standard
// output.
//
// If a read fails, the document contains the error, since the daemon waits for one. Without a socket
// the exit code is then 1. A wrong command line exits with 30 and writes no document.
//
// The audio probe differs: it writes a line at each change for as long as the connection lasts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/dubnium/dubnium/internal/probeserver"
	"github.com/dubnium/dubnium/observer/holders"
	holdersprobe "github.com/dubnium/dubnium/observer/holders/probe"
	"github.com/dubnium/dubnium/observer/inference"
	inferenceprobe "github.com/dubnium/dubnium/observer/inference/probe"
	"github.com/dubnium/dubnium/policy"
)

const usage = `usage: dubnium-probe holders [--proc DIR] [--sys DIR] [--policy FILE]
       dubnium-probe inference [--policy FILE]
       dubnium-probe audio [--server SOCKET]
`

// defaultPolicy is the file in which dubniumd publishes the policy in force.
const defaultPolicy = "/run/mode-controller/policy.toml"

// misuse is the exit code of a wrong command line, as in modectl.
const misuse = 30

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(ctx context.Context, args []string, in io.Reader, out, stderr io.Writer) int {
	probes := map[string]func(*flag.FlagSet, []string) (probeserver.Collect, error){
		"holders": collectHolders, "inference": collectInference,
	}
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return misuse
	}
	if args[0] == "audio" {
		return streamAudio(ctx, args[1:], in, out, stderr)
	}
	probe, known := probes[args[0]]
	if !known {
		fmt.Fprintf(stderr, "dubnium-probe: unknown probe %q\n%s", args[0], usage)
		return misuse
	}
	flags := flag.NewFlagSet("dubnium-probe "+args[0], flag.ContinueOnError)
	flags.SetOutput(stderr)
	collect, err := probe(flags, args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return misuse
	}
	served := probeserver.Probe{
		Name: "dubnium-probe", Collect: collect, Idle: probeserver.Idle, ReadBound: probeserver.ReadBound, Stderr: stderr,
	}
	if err := served.Run(ctx, out); err != nil {
		fmt.Fprintf(stderr, "dubnium-probe: %v\n", err)
		return 1
	}
	return 0
}

var errMisuse = errors.New("wrong command line")

// parse parses the flags. It rejects other arguments.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errMisuse // Parse has printed the error
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "dubnium-probe: unexpected argument %q\n", flags.Arg(0))
		return errMisuse
	}
	return nil
}

func collectHolders(flags *flag.FlagSet, args []string) (probeserver.Collect, error) {
	var roots holdersprobe.Roots
	flags.StringVar(&roots.Proc, "proc", "/proc", "the process `DIR`ectory")
	flags.StringVar(&roots.Sys, "sys", "/sys", "the device `DIR`ectory")
	file := flags.String("policy", defaultPolicy, "the policy `FILE`, which names jobs, DAWs and directories")
	err := parse(flags, args)
	probe, stores := holdersprobe.New(roots), holdersprobe.NewDirectoryReader(roots.Proc)
	return func(ctx context.Context) (any, error) {
		d, err := probe.Scan(ctx)
		if err != nil {
			return holders.Document{Error: err.Error()}, err
		}
		// Who holds a GPU is reported without a valid policy as well.
		p, err := policy.Load(*file)
		if err != nil {
			d.Jobs.Reason = err.Error()
			return d, nil
		}
		d.DAWs, d.MoreDAWs = probe.DAWs(p.Audio)
		d.Jobs, d.Directories = probe.Jobs(ctx, p.Guards), stores.Read(p.Directories())
		return d, nil
	}, err
}

func collectInference(flags *flag.FlagSet, args []string) (probeserver.Collect, error) {
	file := flags.String("policy", defaultPolicy, "the policy `FILE`, which has the addresses of vLLM")
	return func(ctx context.Context) (any, error) {
		p, err := policy.Load(*file)
		if err != nil {
			return inference.Document{Error: err.Error()}, err
		}
		return inferenceprobe.Read(ctx, p.VLLM.HealthURL, p.VLLM.MetricsURL), nil
	}, parse(flags, args)
}
