//go:build integration

package integration

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/policy"
)

// answer is what a program printed and how it exited.
type answer struct {
	stdout, stderr string
	code           int
}

// modectl runs modectl as whoever runs the tests.
func modectl(t *testing.T, w *embedded.Workstation, args ...string) answer {
	t.Helper()
	return run(t, w.ModectlCommand(bounded(t), args...))
}

func run(t *testing.T, cmd *exec.Cmd) answer {
	t.Helper()
	stdout, stderr, code, err := embedded.Run(cmd)
	require.NoError(t, err)
	t.Logf("%s: exit %d\n%s%s", strings.Join(cmd.Args[1:], " "), code, stdout, stderr)
	return answer{stdout, stderr, code}
}

// background runs a command and hands over its answer when it has one.
func background(t *testing.T, cmd *exec.Cmd) <-chan answer {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Start())
	answers := make(chan answer, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the exit code says how it ended
		answers <- answer{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-ended
	})
	return answers
}

// soon takes from a channel, or fails the test.
func soon[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-bounded(t).Done():
		require.FailNow(t, "it did not come: "+what)
		panic("unreachable")
	}
}

// as makes a command run as another user, which only root can; for anybody else
// it runs as they are, who are not root either.
func as(uid uint32, cmd *exec.Cmd) *exec.Cmd {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		cmd.Dir = "/"
	}
	return cmd
}

// reach asks for a mode as root or whoever runs the tests, and proves that the
// machine is in it.
func reach(t *testing.T, w *embedded.Workstation, mode policy.Mode) {
	t.Helper()
	require.Zero(t, modectl(t, w, "request", string(mode)).code)
	requireHost(t, w, mode)
}

// watcher hears the daemon's signals, whichever process is the daemon.
type watcher struct {
	conn    *dbus.Conn
	signals chan *dbus.Signal
}

func watch(t *testing.T, w *embedded.Workstation) *watcher {
	t.Helper()
	c := &watcher{conn: hosttest.Connect(t, w.Host), signals: make(chan *dbus.Signal, 8192)}
	require.NoError(t, c.conn.AddMatchSignal(dbus.WithMatchSender(busapi.BusName), dbus.WithMatchObjectPath(busapi.Path)))
	c.conn.Signal(c.signals)
	return c
}

// await returns the first event from now on that is wanted.
func (c *watcher) await(t *testing.T, what string, wanted func(status.Event) bool) status.Event {
	t.Helper()
	ctx := bounded(t)
	for {
		if e, ok := c.next(ctx, t, what); ok && wanted(e) {
			return e
		}
	}
}

// next waits for a signal and decodes it when it is an event.
func (c *watcher) next(ctx context.Context, t *testing.T, what string) (status.Event, bool) {
	t.Helper()
	select {
	case s := <-c.signals:
		member, ours := strings.CutPrefix(s.Name, busapi.Interface+".")
		if !ours {
			return status.Event{}, false
		}
		e, err := busapi.DecodeEvent(member, s.Body)
		require.NoError(t, err)
		return e, true
	case <-ctx.Done():
		require.FailNow(t, "it did not happen: "+what)
		panic("unreachable")
	}
}

// awaitStep waits until a step of the running transition is that far.
func (c *watcher) awaitStep(t *testing.T, step string, how status.StepStatus) {
	t.Helper()
	c.await(t, step+" is "+string(how), func(e status.Event) bool {
		return e.Step != nil && e.Step.Step == step && e.Step.Status == how
	})
}

// properties reads everything that the daemon publishes.
func (c *watcher) properties(t *testing.T) busapi.Properties {
	t.Helper()
	var all busapi.Dict
	object := c.conn.Object(busapi.BusName, busapi.Path)
	require.NoError(
		t, object.CallWithContext(bounded(t), busapi.PropertiesInterface+".GetAll", 0, busapi.Interface).Store(&all),
	)
	p, err := busapi.DecodeProperties(all)
	require.NoError(t, err)
	return p
}

// until reads what the daemon publishes until it is as wanted.
func (c *watcher) until(t *testing.T, what string, wanted func(status.View) bool) busapi.Properties {
	t.Helper()
	ctx := bounded(t)
	for {
		if p := c.properties(t); wanted(p.View) {
			return p
		}
		c.next(ctx, t, what) // any signal is worth a look
	}
}

// settled waits until no transition runs.
func (c *watcher) settled(t *testing.T) busapi.Properties {
	t.Helper()
	return c.until(t, "no transition runs", func(v status.View) bool { return v.Running == nil })
}
