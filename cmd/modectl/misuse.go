package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The errors of a command line. cobra's own quote Go's parsers and count "arg(s)".

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s accepts no argument, not even %q", cmd.Name(), args[0])
	}
	return nil
}

func atMostOneArgument(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%s accepts one argument, not also %q", cmd.Name(), args[1])
	}
	return nil
}

func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s needs one FILE", cmd.Name())
	}
	return nil
}

func unknownCommand(parent *cobra.Command, args []string) error {
	return fmt.Errorf("unknown command %q of %s", strings.Join(args, " "), parent.CommandPath())
}

// flagError rewords an error of pflag.
func flagError(_ *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	flag, value := invalid.GetFlag(), invalid.GetValue()
	kinds := map[string]string{
		"uint32": "a whole number", "duration": "a time such as 90s, 30m or 4h", "bool": "true or false",
	}
	kind, ok := kinds[flag.Value.Type()]
	if !ok {
		kind = "a value of this flag"
	}
	return fmt.Errorf("--%s: %q is not %s", flag.Name, value, kind)
}

// helpCommand replaces that of cobra, which exits 0 for a command that does not exist.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), args)
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// nearest is the word with the fewest edits to text; empty if none is similar.
func nearest(text string, words []string) (best string) {
	fewest := max(2, len(text)/3) + 1
	for _, word := range words {
		if n := edits(strings.TrimPrefix(text, "check_"), strings.TrimPrefix(word, "check_")); n < fewest {
			best, fewest = word, n
		}
	}
	return best
}

// edits is the Levenshtein distance of two texts, in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
