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
	"github.com/dubnium/dubnium/internal/errtext"
	"github.com/dubnium/dubnium/policy"
)

// inhibitOptions are the flags of `modectl inhibit`.
type inhibitOptions struct {
	mode, how, who, why string
	list, noAskPassword bool
}

func (c *commands) inhibit() *cobra.Command {
	var o inhibitOptions
	cmd := &cobra.Command{
		Use:   "inhibit --why WHY [--mode MODE] [--how block|delay] -- COMMAND",
		Short: "Block or delay transitions while a command runs",
		Long: "inhibit runs COMMAND and holds an inhibitor until it ends: against every\n" +
			"transition, or those to one mode. With block no transition begins; with delay an\n" +
			"announced transition waits, for as long as the policy permits.\n\n" +
			"The exit code is that of COMMAND, or says why it was not run: 30 misuse, 40 not\n" +
			"authorized, 41 daemon not reachable, 42 too late or too many inhibitors.",
		Args: func(_ *cobra.Command, args []string) error { return o.check(args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.list {
				return c.inhibitors(cmd.Context())
			}
			if o.who == "" {
				o.who = filepath.Base(args[0])
			}
			i := status.Inhibitor{Mode: policy.Mode(o.mode), How: status.How(o.how), Who: o.who, Why: o.why}
			return c.whileInhibited(cmd.Context(), i, o.noAskPassword, args)
		},
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&o.mode, "mode", "", "only against transitions to `MODE`")
	flags.StringVar(&o.how, "how", string(status.Block), "`block` or delay")
	flags.StringVar(&o.who, "who", "", "`NAME` of the holder, to show (default: the name of the command)")
	flags.StringVar(&o.why, "why", "", "`REASON` to show")
	flags.BoolVar(&o.list, "list", false, "list the inhibitors and their holders")
	flags.BoolVar(&o.noAskPassword, "no-ask-password", false, "never prompt for a password")
	return cmd
}

// check reports misuse of the flags and arguments.
func (o *inhibitOptions) check(args []string) error {
	switch {
	case o.list && len(args) > 0:
		return errors.New("inhibit --list runs no command")
	case o.list:
		return nil
	case len(args) == 0:
		return errors.New("inhibit needs a command: modectl inhibit --why WHY -- COMMAND")
	case o.why == "":
		return errors.New("inhibit needs a reason: --why WHY")
	case o.how != string(status.Block) && o.how != string(status.Delay):
		return fmt.Errorf("--how must be block or delay, not %q", o.how)
	case o.mode == "":
		return nil
	}
	_, err := policy.ParseMode(o.mode)
	return err
}

func (c *commands) inhibitors(ctx context.Context) error {
	return c.query(ctx, client.Options{}, func(daemon *client.Client) (string, error) {
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

// whileInhibited runs a command under an inhibitor. The connection holds it: if this
// process dies, the daemon releases it. When the daemon has restarted, the inhibitor is
// taken again, because the command still runs.
func (c *commands) whileInhibited(ctx context.Context, i status.Inhibitor, noAskPassword bool, args []string) error {
	bus, stopAgent := c.authentication(ctx, noAskPassword)
	defer stopAgent()
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
	// An interrupt of modectl does not end the inhibitor; the end of the command does.
	keepCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	keeper.Go(func() { daemon.Keep(keepCtx, i, c.reportInhibitor) })
	return runCommand(args)
}

func (c *commands) reportInhibitor(lost error) {
	if lost != nil {
		fmt.Fprintf(c.stderr, "modectl: the inhibitor is lost: %v\n", lost)
		return
	}
	fmt.Fprintln(c.stderr, "modectl: the inhibitor is held again")
}

// runCommand runs a command on this terminal, which sends it keyboard interrupts.
// SIGTERM and SIGHUP are forwarded. The error is its exit code.
func runCommand(args []string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// A command that relies on the inhibitor must not outlive it. The kernel sends the
	// signal when the thread ends that started the command (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return exit{exitMisuse, fmt.Errorf("cannot run %s: %s", args[0], errtext.Of(err))}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // fails only if the command has ended
		case err := <-ended:
			return commandError(err)
		}
	}
}

// commandError is the exit code that a shell would report.
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
		Short: "Cancel the running transition before its point of no return",
		Long: "cancel cancels a transition that has not yet ended a session or stopped a\n" +
			"service: the running one, or that of ID. The desired mode becomes the previous\n" +
			"one.\n\n" +
			"Exit codes: 30 no such transition is running; 40 not authorized; 42 the\n" +
			"transition is past its point of no return.",
		Args: idArgument("cancel", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			bus, stopAgent := c.authentication(ctx, noAskPassword)
			defer stopAgent()
			return c.query(ctx, bus, func(daemon *client.Client) (string, error) {
				id, err := runningID(ctx, daemon, args)
				if err == nil {
					err = daemon.Cancel(ctx, id)
				}
				return fmt.Sprintf("transition %d is canceled\n", id), err
			})
		},
	}
	cmd.Flags().BoolVar(&noAskPassword, "no-ask-password", false, "never prompt for a password")
	return cmd
}

func (c *commands) postpone() *cobra.Command {
	return &cobra.Command{
		Use:   "postpone TIME [ID]",
		Short: "Postpone the announced transition that would end your session",
		Long: "postpone delays the announced transition, or that of ID, by TIME, e.g. 5m. A\n" +
			"user can postpone a transition that would end their graphical session three\n" +
			"times, up to the total that the policy permits.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("postpone needs a time, e.g. 5m")
			}
			if _, err := postponement(args[0]); err != nil {
				return err
			}
			return idArgument("postpone TIME", 1)(cmd, args[1:])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			by, err := postponement(args[0])
			if err != nil {
				return err
			}
			return c.query(ctx, client.Options{}, func(daemon *client.Client) (string, error) {
				return postpone(ctx, daemon, by, args[1:])
			})
		},
	}
}

// postponement parses TIME.
func postponement(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d > busapi.MaxGrace*time.Second {
		return 0, fmt.Errorf("%q is not a time from 1s to 24h, e.g. 5m", text)
	}
	return d, nil
}

// postpone reports the new deadline, which is the daemon's to compute.
func postpone(ctx context.Context, daemon *client.Client, by time.Duration, args []string) (string, error) {
	id, err := runningID(ctx, daemon, args)
	if err == nil {
		err = daemon.Postpone(ctx, id, uint32(by/time.Second))
	}
	if err != nil {
		return "", err
	}
	p, err := daemon.Properties(ctx)
	if running := p.View.Running; err == nil && running != nil && running.ID == id && !running.Deadline.IsZero() {
		return fmt.Sprintf("transition %d now starts at %s\n", id, running.Deadline.Local().Format(time.TimeOnly)), nil
	}
	return fmt.Sprintf("transition %d is postponed by %s\n", id, by), err
}

// idArgument accepts the id of a transition, or none.
func idArgument(command string, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > most {
			return fmt.Errorf("%s accepts one id", command)
		}
		for _, arg := range args {
			if _, err := strconv.ParseUint(arg, 10, 64); err != nil {
				return fmt.Errorf("%q is not the id of a transition: see modectl status", arg)
			}
		}
		return nil
	}
}

// runningID is the id of the arguments, or that of the running transition.
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
