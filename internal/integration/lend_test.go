//go:build integration

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
)

// polkit judges the process that connected to the bus. A test that makes many calls
// as somebody else starts one process that connects where that person would, and takes
// the connection over: this program again, with these variables in its environment.
const (
	lendSocket = "DUBNIUM_INTEGRATION_LEND_SOCKET"
	lendUser   = "DUBNIUM_INTEGRATION_LEND_USER"
	lendTo     = 3 // the descriptor over which the connection is handed
)

// lend connects to the bus as the user, hands the connection over, and stays until its
// standard input ends: polkit looks at the process for as long as it is asked about it.
func lend(socket string) error {
	uid, err := strconv.Atoi(os.Getenv(lendUser))
	if err != nil {
		return err
	}
	for _, err := range []error{syscall.Setgroups(nil), syscall.Setgid(uid), syscall.Setuid(uid)} {
		if err != nil {
			return fmt.Errorf("cannot become uid %d: %w", uid, err)
		}
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return err
	}
	file, err := conn.File()
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(lendTo, []byte{0}, unix.UnixRights(int(file.Fd())), nil, 0); err != nil {
		return fmt.Errorf("cannot hand the connection over: %w", err)
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// person is a connection to the bus that polkit takes for the caller's.
type person struct {
	caller
	conn  *dbus.Conn
	pid   int
	agent *agent // what asks them for a password; nobody asks root
}

// person connects as a caller, who has an agent.
func (g *guarded) person(t *testing.T, who caller) *person {
	t.Helper()
	p := g.lent(t, who)
	p.agent = g.agentOf(t, p)
	return p
}

func (g *guarded) lent(t *testing.T, who caller) *person {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()

	socket, found := strings.CutPrefix(g.Address(), "unix:path=")
	require.True(t, found, g.Address())
	socket, _, _ = strings.Cut(socket, ",")
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), lendSocket+"="+socket, lendUser+"="+strconv.Itoa(int(who.uid)))
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, t.Output()
	cmd.SysProcAttr = g.inCgroup(t, who.cgroup(), &syscall.SysProcAttr{})
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, theirs.Close())
	t.Cleanup(func() {
		require.NoError(t, stdin.Close())
		require.NoError(t, cmd.Wait())
	})
	p := &person{caller: who, conn: newConn(t, borrowed(t, ours), who.uid), pid: cmd.Process.Pid}
	t.Cleanup(func() { _ = p.conn.Close() })
	return p
}

// root is a connection of the test's own.
func (g *guarded) root(t *testing.T) *person {
	t.Helper()
	return &person{caller: caller{0, nowhere}, conn: hosttest.Connect(t, g.Host), pid: os.Getpid(), agent: &agent{}}
}

// borrowed takes the connection that lend hands over.
func borrowed(t *testing.T, from *os.File) net.Conn {
	t.Helper()
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(from.Fd()), make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	require.NoError(t, err)
	messages, err := unix.ParseSocketControlMessage(control[:n])
	require.NoError(t, err)
	require.Len(t, messages, 1, "the process ended before it handed a connection over")
	descriptors, err := unix.ParseUnixRights(&messages[0])
	require.NoError(t, err)
	file := os.NewFile(uintptr(descriptors[0]), "lent")
	defer file.Close()
	conn, err := net.FileConn(file)
	require.NoError(t, err)
	return conn
}

func newConn(t *testing.T, socket net.Conn, uid uint32) *dbus.Conn {
	t.Helper()
	conn, err := dbus.NewConn(socket)
	require.NoError(t, err)
	require.NoError(t, conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(int(uid)))}))
	require.NoError(t, conn.Hello())
	return conn
}

// asked is a call of a method of the daemon's.
type asked struct {
	method string
	args   []any
}

func (a asked) String() string { return fmt.Sprint(a.method, a.args) }

// ask is a call of a method that takes these arguments, flags and options.
func ask(method string, flags uint64, options busapi.Dict, args ...any) asked {
	return asked{method, append(args, flags, options)}
}

// call makes a call, and lets polkit ask for a password where it is interactive.
func (p *person) call(ctx context.Context, a asked, interactive bool) ([]any, error) {
	msg := &dbus.Message{Type: dbus.TypeMethodCall, Body: a.args, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(busapi.BusName),
		dbus.FieldPath:        dbus.MakeVariant(busapi.Path),
		dbus.FieldInterface:   dbus.MakeVariant(busapi.Interface),
		dbus.FieldMember:      dbus.MakeVariant(a.method),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(a.args...)),
	}}
	if interactive {
		msg.Flags = dbus.FlagAllowInteractiveAuthorization
	}
	reply := <-p.conn.SendWithContext(ctx, msg, make(chan *dbus.Call, 1)).Done
	return reply.Body, busapi.FromDBus(reply.Err)
}

// must makes a call that has to be let, with a password for each prompt.
func (p *person) must(t *testing.T, a asked) []any {
	t.Helper()
	p.agent.grant(every)
	reply, err := p.call(bounded(t), a, true)
	require.NoError(t, err, "%s: %s", p, a)
	p.forget(t)
	return reply
}
