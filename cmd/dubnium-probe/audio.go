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

	audioprobe "github.com/dubnium/dubnium/observer/audio/probe"
)

// streamAudio streams to whoever connects, or over the standard input and output when
// no socket was passed.
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
	listener, err := passedListener()
	if err == nil && listener != nil {
		err = serveStream(ctx, listener, server, idle, complaints)
	} else if err == nil {
		err = audioprobe.Stream(ctx, server, in, out, func() {})
	}
	if err != nil {
		fmt.Fprintf(complaints, "dubnium-probe: %v\n", err)
		return 1
	}
	return 0
}

// serveStream streams to one connection after the other, until there has been
// none for idle. There is one daemon: a second connection waits for the end of
// the first.
func serveStream(
	ctx context.Context, listener *net.UnixListener, server audioprobe.Server, idle time.Duration, complaints io.Writer,
) error {
	for {
		feedWatchdog()
		if err := listener.SetDeadline(time.Now().Add(idle)); err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		conn, err := listener.Accept()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		if err := errors.Join(audioprobe.Stream(ctx, server, conn, conn, feedWatchdog), conn.Close()); err != nil {
			fmt.Fprintf(complaints, "dubnium-probe: %v\n", err)
		}
	}
}

// feedWatchdog tells systemd that the probe is not stuck (WatchdogSec=). If it
// cannot be told, systemd ends the probe, and the daemon gets a fresh one.
func feedWatchdog() { _, _ = sd.SdNotify(false, sd.SdNotifyWatchdog) }
