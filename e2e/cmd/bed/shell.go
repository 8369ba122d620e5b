package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/bed"
)

// shell joins our terminal and a shell in the guest. Our terminal is raw meanwhile: keys, signals included, are the
// guest's.
func shell(ctx context.Context, vm *bed.VM, c bed.Command) (code int, err error) {
	c.Argv = []string{"/bin/bash", "-l"}
	c.Env = append(c.Env, "TERM="+os.Getenv("TERM"))
	restore, err := makeRaw(os.Stdin)
	if err != nil {
		return failed, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	t, err := vm.Terminal(ctx, c, size(), os.Stdout)
	if err != nil {
		return failed, err
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			select {
			case <-resized:
				_ = t.Resize(ctx, size()) // at worst lines break oddly
			case <-ctx.Done():
				return
			}
		}
	}()
	go typeInto(ctx, t)
	code, err = t.Wait(ctx)
	if err != nil {
		return failed, err
	}
	return code, nil
}

// typeInto passes keys on until the terminal or the shell ends.
func typeInto(ctx context.Context, t *bed.Terminal) {
	buf := make([]byte, 4096)
	for {
		n, err := os.Stdin.Read(buf)
		if err == nil {
			err = t.Type(ctx, buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func size() bed.Size {
	ws, err := unix.IoctlGetWinsize(int(os.Stdout.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Row == 0 {
		return bed.Size{Rows: 24, Cols: 80}
	}
	return bed.Size{Rows: ws.Row, Cols: ws.Col}
}

// makeRaw takes line editing, echo and signals away from the terminal, as cfmakeraw does.
func makeRaw(tty *os.File) (restore func() error, err error) {
	fd := int(tty.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("cannot start a shell: the input is no terminal (use bed run): %w", err)
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, fmt.Errorf("cannot make the terminal raw: %w", err)
	}
	return func() error {
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, old); err != nil {
			return fmt.Errorf("cannot restore the terminal: %w", err)
		}
		return nil
	}, nil
}
