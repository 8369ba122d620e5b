// Command dubnium-probe is the eyes of dubniumd: it looks where the daemon
// itself may not, and says what it saw in one JSON document.
//
// Given a socket by systemd it writes a document to everybody who connects, one
// after the other, and ends when nobody has for a while; the next connection
// starts it again. Without one it writes one document to its standard output.
//
// The daemon waits for a document, so one that says why there is no answer is
// written even when looking failed; the exit code of a single look is then 1.
// Misuse is 30 and writes none.
//
// The audio probe is another kind: it streams a line at each change for as long
// as the connection lasts.
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

// defaultPolicy is what dubniumd wrote down as in force.
const defaultPolicy = "/run/mode-controller/policy.toml"

// misuse is the exit code of a wrong command line, as in modectl.
const misuse = 30

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) int {
	probes := map[string]func(*flag.FlagSet, []string) (probeserver.Result, error){
		"holders": holdersLook, "inference": inferenceLook,
	}
	if len(args) == 0 {
		fmt.Fprint(complaints, usage)
		return misuse
	}
	if args[0] == "audio" {
		return streamAudio(ctx, args[1:], in, out, complaints)
	}
	probe, known := probes[args[0]]
	if !known {
		fmt.Fprintf(complaints, "dubnium-probe: unknown probe %q\n%s", args[0], usage)
		return misuse
	}
	flags := flag.NewFlagSet("dubnium-probe "+args[0], flag.ContinueOnError)
	flags.SetOutput(complaints)
	see, err := probe(flags, args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return misuse
	}
	served := probeserver.Probe{
		Name: "dubnium-probe", Collect: see, Idle: probeserver.Idle, LookBound: probeserver.LookBound, Stderr: complaints,
	}
	if err := served.Run(ctx, out); err != nil {
		fmt.Fprintf(complaints, "dubnium-probe: %v\n", err)
		return 1
	}
	return 0
}

var errMisuse = errors.New("wrong command line")

// parse reads flags; there are no other arguments.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errMisuse // flags has said what is wrong
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "dubnium-probe: unexpected argument %q\n", flags.Arg(0))
		return errMisuse
	}
	return nil
}

func holdersLook(flags *flag.FlagSet, args []string) (probeserver.Result, error) {
	var roots holdersprobe.Roots
	flags.StringVar(&roots.Proc, "proc", "/proc", "the process `DIR`ectory")
	flags.StringVar(&roots.Sys, "sys", "/sys", "the device `DIR`ectory")
	file := flags.String("policy", defaultPolicy, "the policy `FILE`, which names jobs, DAWs and directories")
	err := parse(flags, args)
	look, stores := holdersprobe.New(roots), holdersprobe.NewStores(roots.Proc)
	return func(ctx context.Context) (any, error) {
		d, err := look.Scan(ctx)
		if err != nil {
			return holders.Document{Error: err.Error()}, err
		}
		// Who holds a GPU is reported without a valid policy as well.
		p, err := policy.Load(*file)
		if err != nil {
			d.Jobs.Reason = err.Error()
			return d, nil
		}
		d.DAWs, d.MoreDAWs = look.DAWs(p.Audio)
		d.Jobs, d.Stores = look.Jobs(ctx, p.Guards), stores.Look(p.Stores())
		return d, nil
	}, err
}

func inferenceLook(flags *flag.FlagSet, args []string) (probeserver.Result, error) {
	file := flags.String("policy", defaultPolicy, "the policy `FILE`, which says where vLLM listens")
	return func(ctx context.Context) (any, error) {
		p, err := policy.Load(*file)
		if err != nil {
			return inference.Document{Error: err.Error()}, err
		}
		return inferenceprobe.Ask(ctx, p.VLLM.HealthURL, p.VLLM.MetricsURL), nil
	}, parse(flags, args)
}
