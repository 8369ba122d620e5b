// Command bed lets a person use the test bed: a workstation in a virtual machine that is up in a second.
//
//	bed shell [--tree DIR] [--boot] [--user NAME]      a shell in a fresh machine
//	bed run   [--tree DIR] [--boot] [--user NAME] -- COMMAND...
//	bed image                                          make what the cache lacks, with times
//	bed prune                                          empty the cache
//
// --tree lays a staging tree (make install DESTDIR=DIR) over the machine first. E2E_FLAVOUR picks the flavour. The
// machine is gone when the command ends. The exit code is that of the command or shell, 125 when the bed itself failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dubnium/dubnium/e2e/bed"
)

const (
	failed = 125
	misuse = 2
)

const usage = `usage: bed shell [--tree DIR] [--boot] [--user NAME]
       bed run [--tree DIR] [--boot] [--user NAME] -- COMMAND...
       bed image
       bed prune
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bed:", err)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (code int, err error) {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return misuse, nil
	}
	flavour, err := bed.FlavourFromEnv()
	if err != nil {
		return misuse, err
	}
	switch name, args := args[0], args[1:]; name {
	case "shell", "run":
		o, err := parse(name, args)
		if err != nil {
			return misuse, err
		}
		return use(ctx, flavour, o)
	case "image":
		return outcome(makeImage(ctx, flavour))
	case "prune":
		return outcome(bed.Prune(ctx, say))
	default:
		fmt.Fprint(os.Stderr, usage)
		return misuse, fmt.Errorf("unknown command %q", name)
	}
}

func outcome(err error) (int, error) {
	if err != nil {
		return failed, err
	}
	return 0, nil
}

// options are what shell and run have in common.
type options struct {
	tree, user string
	boot       bool
	argv       []string // empty: a shell
}

func parse(name string, args []string) (options, error) {
	var o options
	set := flag.NewFlagSet("bed "+name, flag.ContinueOnError)
	set.StringVar(&o.tree, "tree", "", "staging `directory` to lay over the machine")
	set.StringVar(&o.user, "user", "", "`name` of the user in whose session it runs (default: root, outside of any)")
	set.BoolVar(&o.boot, "boot", false, "boot the image instead of restoring the saved state")
	if err := set.Parse(args); err != nil {
		return o, err
	}
	o.argv = set.Args()
	if (name == "run") == (len(o.argv) == 0) {
		return o, errors.New("run needs a command, shell takes none")
	}
	return o, nil
}

// use brings up a machine for one command or shell.
func use(ctx context.Context, f bed.Flavour, o options) (code int, err error) {
	start := bed.RestoreVM
	if o.boot {
		start = bed.BootVM
	}
	vm, err := start(ctx, f, say)
	if err != nil {
		return failed, err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	if o.tree != "" {
		if err := lay(ctx, vm, o.tree); err != nil {
			return failed, err
		}
	}
	command := bed.Command{Argv: o.argv}
	if o.user != "" {
		command = command.Within(o.user)
	}
	if len(o.argv) == 0 {
		return shell(ctx, vm, command)
	}
	out, err := vm.Exec(ctx, command)
	if err != nil {
		return failed, err
	}
	fmt.Print(out.Stdout)
	fmt.Fprint(os.Stderr, out.Stderr)
	return out.Code, nil
}

func lay(ctx context.Context, vm *bed.VM, tree string) error {
	began := time.Now()
	if err := vm.PutTree(ctx, tree); err != nil {
		return err
	}
	if _, err := vm.Must(ctx, bed.Script("systemctl daemon-reload")); err != nil {
		return err
	}
	say("put %s into the machine in %.1f s", tree, time.Since(began).Seconds())
	return nil
}

func makeImage(ctx context.Context, f bed.Flavour) error {
	began := time.Now()
	vm, err := bed.RestoreVM(ctx, f, say)
	if err != nil {
		return err
	}
	say("%s is ready after %.1f s", f.Name, time.Since(began).Seconds())
	return vm.Close()
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bed: "+format+"\n", args...) }
