package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/observer/unitgraph"
)

// impactCommand prints what isolating a target would do now. It reads the bus and changes
// nothing. Any user may run it, and the daemon is not needed.
func impactCommand() *cobra.Command {
	var asJSON bool
	cmd := newCommand("impact TARGET", "List the units that isolating a target would stop and start",
		func(ctx context.Context, out io.Writer, args []string) error {
			impact, err := readImpact(ctx, args[0])
			if err != nil {
				return err
			}
			if !asJSON {
				return printImpact(out, impact)
			}
			encoder := json.NewEncoder(out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(impact)
		})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func readImpact(ctx context.Context, target string) (unitgraph.IsolateImpact, error) {
	bus, err := busconn.Connect("")
	if err != nil {
		return unitgraph.IsolateImpact{}, err
	}
	defer bus.Close()
	graph, err := systemd1.New(bus).Graph(ctx, target)
	if err != nil {
		return unitgraph.IsolateImpact{}, fmt.Errorf("cannot determine the impact of isolating %s: %w", target, err)
	}
	return unitgraph.ComputeIsolate(graph, target), nil
}

func printImpact(w io.Writer, i unitgraph.IsolateImpact) error {
	var text strings.Builder
	if i.Refused != "" {
		fmt.Fprintf(&text, "systemd would refuse: %s\n", i.Refused)
	}
	for _, c := range i.Stops {
		fmt.Fprintf(&text, "stops %s (%s by %s)%s\n", c.Unit, c.Cause, c.By, notRestartable(c))
	}
	for _, s := range i.Starts {
		fmt.Fprintf(&text, "starts %s\n", s.Unit)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func notRestartable(c unitgraph.StoppedUnit) string {
	if c.Transient {
		return ", and cannot be started again"
	}
	return ""
}
