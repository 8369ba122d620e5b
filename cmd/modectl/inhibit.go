package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

func (c *commands) inhibit() *cobra.Command {
	var mode, how, who, why string
	var list, noAskPassword bool
	cmd := &cobra.Command{
		Use:   "inhibit --why WHY [--mode MODE] [--how block|delay] -- COMMAND",
		Short: "Hold transitions up for as long as a command runs",
		Long: "inhibit runs COMMAND and holds transitions up until it ends: all of them, or those to one mode. block\n" +
			"lets none begin; delay has one that was announced wait for as long as policy lets it. The exit code\n" +
			"is the command's own, or says why it was not run: 30 misuse, 40 not authorized, 41 daemon not\n" +
			"reachable, 42 too late or too many. inhibit --list shows who holds what.",
		Args: func(_ *cobra.Command, args []string) error {
			_, err := policy.ParseMode(mode)
			switch {
			case list && len(args) > 0:
				return errors.New("inhibit --list runs no command")
			case list:
				return nil
			case len(args) == 0:
				return errors.New("inhibit takes a command: modectl inhibit --why WHY -- COMMAND")
			case why == "":
				return errors.New("inhibit takes a reason: --why WHY")
			case how != string(status.Block) && how != string(status.Delay):
				return fmt.Errorf("unknown way to inhibit %q: it is block or delay", how)
			case mode != "":
				return err
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				return c.inhibitors(cmd.Context())
			}
			if who == "" {
				who = filepath.Base(args[0])
			}
			i := status.Inhibitor{Mode: policy.Mode(mode), How: status.How(how), Who: who, Why: why}
			return c.whileInhibited(cmd.Context(), i, noAskPassword, args)
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&mode, "mode", "", "hold up transitions to `MODE` only")
	cmd.Flags().StringVar(&how, "how", string(status.Block), "`block` or delay")
	cmd.Flags().StringVar(&who, "who", "", "who holds them up, for people (default the command's name)")
	cmd.Flags().StringVar(&why, "why", "", "why, for people")
	cmd.Flags().BoolVar(&list, "list", false, "show who holds what")
	cmd.Flags().BoolVar(&noAskPassword, "no-ask-password", false, "do not ask for a password")
	return cmd
}

func (c *commands) inhibitors(ctx context.Context) error {
	return c.ask(ctx, client.Options{}, func(daemon *client.Client) (string, error) {
		p, err := daemon.Properties(ctx)
		switch {
		case err != nil:
			return "", err
		case c.json:
			return render.InhibitorsJSON(p.View.Inhibitors), nil
		}
		return render.Inhibitors(p.View.Inhibitors, time.Now()), nil
	})
}

// whileInhibited runs a command under an inhibitor. It is the connection that
// holds it: should this process die, the bus tells the daemon. A daemon that was
// away is asked again, because the command still runs.
func (c *commands) whileInhibited(ctx context.Context, i status.Inhibitor, noAskPassword bool, args []string) error {
	bus, end := c.mayAsk(ctx, noAskPassword)
	defer end()
	daemon, err := client.Open(ctx, bus)
	if err != nil {
		return failure(err)
	}
	defer daemon.Close()
	if err := daemon.Follow(ctx); err != nil {
		return failure(err)
	}
	if _, err := daemon.Inhibit(ctx, i); err != nil {
		return failure(err)
	}
	var keeper sync.WaitGroup
	defer keeper.Wait()
	keeping, done := context.WithCancel(context.WithoutCancel(ctx)) // it is the command that ends
	defer done()
	keeper.Go(func() { daemon.Keep(keeping, i, c.noteInhibitor) })
	return runCommand(args)
}

func (c *commands) noteInhibitor(lost error) {
	if lost != nil {
		fmt.Fprintf(c.stderr, "modectl: transitions are not held up now: %v\n", lost)
		return
	}
	fmt.Fprintln(c.stderr, "modectl: transitions are held up again")
}

// runCommand runs a command in this one's place: it has the terminal, and with it
// what is typed to interrupt it; a request to end is passed on. The error is its
// exit code.
func runCommand(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A command that counts on the inhibitor is not to go on without it. The signal
	// comes when the thread ends that started the command (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(asked)
	if err := cmd.Start(); err != nil {
		return exit{exitMisuse, fmt.Errorf("cannot run the command: %w", err)}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-asked:
			_ = cmd.Process.Signal(s) // it may have ended just now
		case err := <-ended:
			return commandError(err)
		}
	}
}

// commandError gives a command's end the exit code that a shell would.
func commandError(err error) error {
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	if s, ok := ended.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return exit{128 + int(s.Signal()), nil}
	}
	return exit{ended.ExitCode(), nil}
}

func (c *commands) cancel() *cobra.Command {
	var noAskPassword bool
	cmd := &cobra.Command{
		Use:   "cancel [ID]",
		Short: "Halt the transition that runs, before its point of no return",
		Long: "cancel halts the transition that runs, or that of ID, as long as it has taken nothing from anybody.\n" +
			"The desired mode is then what it was before. Exit code 42: it is past its point of no return.",
		Args: idArgument("cancel", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			bus, end := c.mayAsk(ctx, noAskPassword)
			defer end()
			return c.ask(ctx, bus, func(daemon *client.Client) (string, error) {
				id, err := runningID(ctx, daemon, args)
				if err == nil {
					err = daemon.Cancel(ctx, id)
				}
				return fmt.Sprintf("transition %d is canceled\n", id), err
			})
		},
	}
	cmd.Flags().BoolVar(&noAskPassword, "no-ask-password", false, "do not ask for a password")
	return cmd
}

func (c *commands) postpone() *cobra.Command {
	return &cobra.Command{
		Use:   "postpone TIME [ID]",
		Short: "Postpone the announced transition that would end your session",
		Long: "postpone has the transition that is announced, or that of ID, go on later by TIME,\n" +
			"e.g. 5m. Whoever has a graphical session that it would end can do so three times,\n" +
			"and for as long in all as the policy says.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("postpone takes a time, e.g. 5m")
			}
			d, err := time.ParseDuration(args[0])
			if err != nil || d < time.Second || d > busapi.MaxGrace*time.Second {
				return fmt.Errorf("cannot postpone by %q: write a time from 1s to 24h, e.g. 5m", args[0])
			}
			return idArgument("postpone TIME", 1)(cmd, args[1:])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			d, err := time.ParseDuration(args[0])
			if err != nil {
				return err
			}
			return c.ask(ctx, client.Options{}, func(daemon *client.Client) (string, error) {
				id, err := runningID(ctx, daemon, args[1:])
				if err == nil {
					err = daemon.Postpone(ctx, id, uint32(d/time.Second))
				}
				if err != nil {
					return "", err
				}
				p, err := daemon.Properties(ctx)
				if running := p.View.Running; err == nil && running != nil && running.ID == id && !running.Deadline.IsZero() {
					return fmt.Sprintf("transition %d goes on at %s\n", id, running.Deadline.Local().Format(time.TimeOnly)), nil
				}
				return fmt.Sprintf("transition %d is postponed by %s\n", id, d), err
			})
		},
	}
}

// idArgument takes the id of a transition, or none.
func idArgument(command string, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > most {
			return fmt.Errorf("%s takes one id", command)
		}
		for _, arg := range args {
			if _, err := strconv.ParseUint(arg, 10, 64); err != nil {
				return fmt.Errorf("%q is not the id of a transition", arg)
			}
		}
		return nil
	}
}

// runningID is the id that was given, or that of the transition that runs.
func runningID(ctx context.Context, daemon *client.Client, args []string) (uint64, error) {
	if len(args) > 0 {
		return strconv.ParseUint(args[0], 10, 64)
	}
	p, err := daemon.Properties(ctx)
	switch {
	case err != nil:
		return 0, err
	case p.View.Running == nil:
		return 0, exit{exitMisuse, errors.New("no transition is running")}
	}
	return p.View.Running.ID, nil
}
