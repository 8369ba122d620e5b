package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/probeserver"
	audioprobe "github.com/dubnium/dubnium/observer/audio/probe"
)

// memory bounds the data of the audio probe, which a hostile server can make
// grow. systemd bounds it too (MemoryMax=); this one is there without systemd.
// Address space would be the wrong measure: Go reserves more than it uses.
const memory = 256 << 20

// streamAudio streams to whoever connects, or over the standard input and output
// when no socket was passed. It serves one connection and ends: what reads a
// hostile server is used once.
func streamAudio(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) int {
	flags := flag.NewFlagSet("dubnium-probe audio", flag.ContinueOnError)
	flags.SetOutput(complaints)
	server := audioprobe.Server{Cookie: filepath.Join(os.Getenv("HOME"), ".config/pulse/cookie")}
	flags.StringVar(&server.Socket, "server", fmt.Sprintf("/run/user/%d/pulse/native", os.Getuid()), "the audio server's `SOCKET`")
	if err := parse(flags, args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return misuse
	}
	listener, err := probeserver.Listener()
	if err == nil {
		err = confine()
	}
	if err == nil && listener != nil {
		in, out, err = awaitDaemon(listener)
	}
	if err == nil && in != nil {
		err = audioprobe.Stream(ctx, server, in, out, audioprobe.Watchdog{Alive: feedWatchdog, Stuck: func() {
			fmt.Fprintln(complaints, "dubnium-probe: a look at the audio server does not end")
			os.Exit(1)
		}})
	}
	if err != nil {
		fmt.Fprintf(complaints, "dubnium-probe: %v\n", err)
		return 1
	}
	return 0
}

// confine bounds what a hostile server can do to this process, and through it.
func confine() error {
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: memory, Max: memory}); err != nil {
		return fmt.Errorf("cannot bound its memory: %w", err)
	}
	// The library prints what it does not know to os.Stdout, where the lines for the
	// daemon may go.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot silence its library: %w", err)
	}
	os.Stdout = null
	return nil
}

// awaitDaemon takes the connection to serve; nil when nobody wants one in time.
func awaitDaemon(listener *net.UnixListener) (io.Reader, io.Writer, error) {
	feedWatchdog()
	if err := listener.SetDeadline(time.Now().Add(probeserver.Idle)); err != nil {
		return nil, nil, fmt.Errorf("cannot serve: %w", err)
	}
	conn, err := listener.Accept()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot serve: %w", err)
	}
	return conn, conn, nil
}

// feedWatchdog tells systemd that the probe is not stuck (WatchdogSec=). If it
// cannot be told, systemd ends the probe, and the daemon gets a fresh one.
func feedWatchdog() { _, _ = sd.SdNotify(false, sd.SdNotifyWatchdog) }
