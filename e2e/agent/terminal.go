package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// terminal is a pseudo-terminal: the program sits at the far end, the host's terminal at the near one.
type terminal struct {
	near, far *os.File
}

func openTerminal(size wire.Size) (*terminal, error) {
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a terminal: %w", err)
	}
	var number int
	err = control(near, func(fd int) error {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		return err
	})
	if err != nil {
		near.Close()
		return nil, fmt.Errorf("cannot unlock a terminal: %w", err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		near.Close()
		return nil, fmt.Errorf("cannot open a terminal: %w", err)
	}
	t := &terminal{near: near, far: far}
	t.resize(size)
	return t, nil
}

// control runs f on the file's descriptor without taking the file out of the poller, as Fd would.
func control(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func (t *terminal) attach(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.far, t.far, t.far
	cmd.SysProcAttr.Setctty = true // of its descriptor 0
}

// resize is a courtesy to full-screen programs: a failure shows on the screen and nowhere else.
func (t *terminal) resize(size wire.Size) {
	_ = control(t.near, func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	})
}

// converse joins the stream and the terminal until the program ends, then drains what it printed last.
func (t *terminal) converse(st *stream, cmd *exec.Cmd) error {
	t.far.Close() // only the program holds it now, so that its end ends the copying
	go func() { _, _ = io.Copy(t.near, st.input) }()
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		_, _ = io.Copy(st.output(wire.Output), t.near) // ends with EIO when the far end is closed
	}()
	err := cmd.Wait()
	select {
	case <-printed:
	case <-time.After(lingering): // a background job keeps the terminal
	}
	return err
}

func (t *terminal) close() {
	t.near.Close()
	t.far.Close()
}
