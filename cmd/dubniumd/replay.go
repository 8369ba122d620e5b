package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/observer/recording"
	"github.com/dubnium/dubnium/policy"
)

// errDiffers is the error of a replay that has printed differences.
var errDiffers = errors.New("the recording is classified differently")

// replayCommand classifies the recording of `modectl record` again, by the policy of
// --policy or else by the recorded one. It changes nothing.
func replayCommand() *cobra.Command {
	var policyFile string
	var asJSON bool
	cmd := newCommand("replay FILE", "Classify a recording again, and print the differences",
		func(_ context.Context, out io.Writer, args []string) error {
			count, differences, err := replay(args[0], policyFile)
			if err != nil {
				return err
			}
			if err := printDifferences(out, count, differences, asJSON); err != nil {
				return err
			}
			if len(differences) > 0 {
				return errDiffers
			}
			return nil
		})
	cmd.Long = cmd.Short + ".\nThe exit code is 2 if there are any, and 1 if the replay failed."
	cmd.Flags().StringVar(&policyFile, "policy", "", "policy `FILE` (default: that of the recording)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func replay(path, policyFile string) (count int, differences []recording.Difference, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot read the recording: %w", err)
	}
	defer f.Close()
	h, entries, _, err := recording.Read(f)
	if err != nil {
		return 0, nil, err
	}
	p, err := policy.Parse("the recording's policy", []byte(h.Policy))
	if policyFile != "" {
		if _, statErr := os.Stat(policyFile); statErr != nil { // Load uses the default for a missing file
			return 0, nil, fmt.Errorf("cannot read the policy: %w", statErr)
		}
		p, err = policy.Load(policyFile)
	}
	if err != nil {
		return 0, nil, err
	}
	return len(entries), recording.Replay(p, entries), nil
}

func printDifferences(w io.Writer, count int, differences []recording.Difference, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		return out.Encode(append([]recording.Difference{}, differences...))
	}
	for _, d := range differences {
		if _, err := fmt.Fprintf(
			w, "%s  %s -> %s\n", d.At.Format(time.RFC3339), describe(d.Recorded), describe(d.Replayed),
		); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d of %d snapshots are classified differently\n", len(differences), count)
	return err
}

func describe(v recording.Verdict) string {
	return fmt.Sprintf("%s (%s; %s)", v.State, v.Confidence, strings.Join(v.Reasons, ", "))
}
