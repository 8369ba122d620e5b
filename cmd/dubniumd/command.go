package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/dubnium/dubnium/internal/version"
)

// command is one thing that the program does. (cobra would bring text/template
// along, and both would be in memory for as long as the daemon runs.)
type command struct {
	words []string // by which it is called; none for the daemon itself
	takes []string // its arguments, as usage names them
	short string
	flags *pflag.FlagSet
	run   func(ctx context.Context, out io.Writer, args []string) error
}

// newCommand returns a command without flags. Usage is its words, and then in
// capitals what it takes.
func newCommand(usage, short string) *command {
	c := &command{short: short, flags: pflag.NewFlagSet(usage, pflag.ContinueOnError)}
	for _, word := range strings.Fields(usage) {
		if word == strings.ToUpper(word) {
			c.takes = append(c.takes, word)
		} else {
			c.words = append(c.words, word)
		}
	}
	c.flags.Usage = func() {} // execute tells
	return c
}

func (c *command) usage() string {
	return strings.Join(slices.Concat([]string{"dubniumd"}, c.words, c.takes), " ")
}

// flag defines a flag that is text; hidden ones are for tests.
func (c *command) flag(value *string, name, otherwise, usage string, hidden bool) {
	c.flags.StringVar(value, name, otherwise, usage)
	c.flags.Lookup(name).Hidden = hidden
}

// execute runs the command that args call, which writes to out.
func execute(ctx context.Context, out io.Writer, args []string) error {
	all := commands()
	c, args, err := find(all, args)
	if err != nil {
		return err
	}
	tell := c.flags.Bool("version", false, "print the version")
	switch err := c.flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return c.help(out, all)
	case err != nil:
		return fmt.Errorf("%w; see `%s --help`", err, c.usage())
	case *tell:
		_, err := fmt.Fprintf(out, "dubniumd version %s\n", version.Version)
		return err
	case c.flags.NArg() != len(c.takes):
		return fmt.Errorf("it is called as `%s`", c.usage())
	}
	return c.run(ctx, out, c.flags.Args())
}

// find returns the command that args begin with, and the rest of them.
func find(all []*command, args []string) (*command, []string, error) {
	var words []string
	for _, arg := range args {
		if strings.HasPrefix(arg, "-") {
			break
		}
		words = append(words, arg)
	}
	for _, c := range all {
		if n := len(c.words); n <= len(words) && slices.Equal(c.words, words[:n]) && (n > 0 || len(words) == 0) {
			return c, args[n:], nil
		}
	}
	return nil, nil, fmt.Errorf("unknown command %q; see `dubniumd --help`", strings.Join(words, " "))
}

// help tells how the command is called, and of the daemon's also which others
// there are.
func (c *command) help(out io.Writer, all []*command) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\nUsage:\n  %s [flags]\n", c.short, c.usage())
	if len(c.words) == 0 {
		fmt.Fprint(&text, "\nCommands:\n")
		for _, other := range all {
			fmt.Fprintf(&text, "  %-30s %s\n", cmp.Or(strings.TrimPrefix(other.usage(), "dubniumd "), "dubniumd"), other.short)
		}
	}
	fmt.Fprintf(&text, "\nFlags:\n%s", c.flags.FlagUsages())
	_, err := io.WriteString(out, text.String())
	return err
}
