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

// memory bounds the data of the audio probe in bytes, which a hostile server can make grow. systemd
// bounds it as well (MemoryMax=); this limit works without systemd. RLIMIT_AS does not fit, because Go
// reserves more address space than it uses.
const memory = 256 << 20

// streamAudio streams to the first connection, or over the standard input and output if no socket
// was passed. Then it ends: a process that has read a hostile server is not used again.
func streamAudio(ctx context.Context, args []string, in io.Reader, out, stderr io.Writer) int {
	flags := flag.NewFlagSet("dubnium-probe audio", flag.ContinueOnError)
	flags.SetOutput(stderr)
	server := audioprobe.Server{Cookie: filepath.Join(os.Getenv("HOME"), ".config/pulse/cookie")}
	socket := fmt.Sprintf("/run/user/%d/pulse/native", os.Getuid())
	flags.StringVar(&server.Socket, "server", socket, "the audio server's `SOCKET`")
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
			fmt.Fprintln(stderr, "dubnium-probe: the audio server does not answer")
			os.Exit(1)
		}})
	}
	if err != nil {
		fmt.Fprintf(stderr, "dubnium-probe: %v\n", err)
		return 1
	}
	return 0
}

// confine limits the damage that a hostile server can do through this process.
func confine() error {
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: memory, Max: memory}); err != nil {
		return fmt.Errorf("cannot limit its memory: %w", err)
	}
	// The PulseAudio library prints unknown messages to os.Stdout, which may be the stream
	// to the daemon.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot redirect the output of the PulseAudio library: %w", err)
	}
	os.Stdout = null
	return nil
}

// awaitDaemon accepts the connection to serve. It returns nil if there is none within
// probeserver.Idle.
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

// feedWatchdog notifies systemd that the probe is not stuck (WatchdogSec=). If that fails, systemd
// ends the probe, and the daemon connects to a new one.
func feedWatchdog() { _, _ = sd.SdNotify(false, sd.SdNotifyWatchdog) }
