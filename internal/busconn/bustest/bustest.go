// Package bustest runs a bare private bus for tests that play systemd or logind
// themselves: one that restarts, lies or hangs. internal/testhost has the
// well-behaved ones.
package bustest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
)

const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow user="*"/><allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy>
</busconfig>
`

// Start runs a bus until the test ends and returns its address.
func Start(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "bus") // a unix socket's path has to be short
	require.NoError(tb, err)
	tb.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "bus.conf")
	require.NoError(tb, os.WriteFile(file, fmt.Appendf(nil, config, filepath.Join(dir, "bus")), 0o600))

	cmd := exec.Command("dbus-daemon", "--config-file="+file, "--nofork", "--nopidfile", "--nosyslog",
		"--print-address=1")
	out, err := cmd.StdoutPipe()
	require.NoError(tb, err)
	// It dies with the thread that started it, so that a test that is killed
	// leaves nothing behind; the thread is kept until then.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	read := make(chan struct{}) // Wait closes the pipe
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-read
			_ = cmd.Wait() // it is killed
		}
	}()
	require.NoError(tb, <-started)
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	close(read)
	require.NoError(tb, err)
	return strings.TrimSpace(address)
}

// Connect connects a client to the bus until the test ends.
func Connect(tb testing.TB, address string) *busconn.Bus {
	tb.Helper()
	bus, err := busconn.Dial(address)
	require.NoError(tb, err)
	tb.Cleanup(func() { bus.Close() })
	return bus
}

// Peer connects somebody else to the bus until the test ends.
func Peer(tb testing.TB, address string) *dbus.Conn {
	tb.Helper()
	conn, err := dbus.Connect(address)
	require.NoError(tb, err)
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// Own gives the name to conn.
func Own(tb testing.TB, conn *dbus.Conn, name string) {
	tb.Helper()
	reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
	require.NoError(tb, err)
	require.Equal(tb, dbus.RequestNameReplyPrimaryOwner, reply)
}
