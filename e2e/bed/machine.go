package bed

import (
	"bytes"
	"context"
	"io/fs"
	"os"
)

// T is what a machine needs of a test; *testing.T is one.
type T interface {
	Helper()
	Name() string
	Failed() bool
	Cleanup(func())
	Context() context.Context
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	FailNow()
}

// Machine is a VM that belongs to a test: what it cannot do fails the test at once. Like t.FailNow its methods belong to
// the test's own goroutine; others use the VM.
type Machine struct {
	VM *VM
	t  T
}

// Restore brings up the saved workstation of the flavour that E2E_FLAVOUR names. The machine ends with the test.
func Restore(t T) *Machine {
	t.Helper()
	return begin(t, RestoreVM)
}

// Boot is Restore with a machine that has just booted its image, as far as the agent. It takes a boot's time.
func Boot(t T) *Machine {
	t.Helper()
	return begin(t, BootVM)
}

func begin(t T, start func(context.Context, Flavour, Say) (*VM, error)) *Machine {
	t.Helper()
	m := &Machine{t: t}
	f, err := FlavourFromEnv()
	m.check(err)
	m.VM, err = start(t.Context(), f, t.Logf)
	m.check(err)
	t.Cleanup(m.end)
	return m
}

func (m *Machine) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Errorf("%v", err)
		m.t.FailNow()
	}
}

// end collects evidence when the test has failed, and ends the machine.
func (m *Machine) end() {
	if m.t.Failed() {
		if err := m.VM.testify(m.t.Logf, m.t.Name()); err != nil {
			m.t.Logf("%v", err)
		}
	}
	if err := m.VM.Close(); err != nil {
		m.t.Errorf("%v", err)
	}
}

// Exec runs a command to its end; it may fail.
func (m *Machine) Exec(ctx context.Context, c Command) Output {
	m.t.Helper()
	out, err := m.VM.Exec(ctx, c)
	m.check(err)
	return out
}

// Run runs a command as root that has to succeed, and returns its standard output.
func (m *Machine) Run(ctx context.Context, argv ...string) string {
	m.t.Helper()
	out, err := m.VM.Must(ctx, Command{Argv: argv})
	m.check(err)
	return out
}

// Sh runs a shell script as root and returns what it printed, both outputs together, and its exit code.
func (m *Machine) Sh(ctx context.Context, script string) (out string, code int) {
	m.t.Helper()
	o := m.Exec(ctx, Script(script))
	return o.Both, o.Code
}

// AsUser is Sh as a user with the environment of the user's desktop, outside of any login session.
func (m *Machine) AsUser(ctx context.Context, user, script string) (out string, code int) {
	m.t.Helper()
	o := m.Exec(ctx, Script(script).As(user))
	return o.Both, o.Code
}

// InSession is AsUser within the user's login session, as a program on the desktop.
func (m *Machine) InSession(ctx context.Context, user, script string) (out string, code int) {
	m.t.Helper()
	o := m.Exec(ctx, Script(script).Within(user))
	return o.Both, o.Code
}

// Start starts a shell script as root and returns once it runs.
func (m *Machine) Start(ctx context.Context, script string) *Proc {
	m.t.Helper()
	return m.StartCommand(ctx, Script(script))
}

// StartCommand starts a command and returns once it runs.
func (m *Machine) StartCommand(ctx context.Context, c Command) *Proc {
	m.t.Helper()
	p, err := m.VM.Start(ctx, c)
	m.check(err)
	return p
}

// Put copies a file of the host into the guest.
func (m *Machine) Put(ctx context.Context, local, remote string, mode fs.FileMode) {
	m.t.Helper()
	f, err := os.Open(local)
	m.check(err)
	defer f.Close()
	m.check(m.VM.Put(ctx, f, remote, mode))
}

// PutBytes writes a file in the guest.
func (m *Machine) PutBytes(ctx context.Context, body []byte, remote string, mode fs.FileMode) {
	m.t.Helper()
	m.check(m.VM.Put(ctx, bytes.NewReader(body), remote, mode))
}

// PutTree lays a directory's contents over the guest's root directory.
func (m *Machine) PutTree(ctx context.Context, dir string) {
	m.t.Helper()
	m.check(m.VM.PutTree(ctx, dir))
}

// Get reads a file of the guest.
func (m *Machine) Get(ctx context.Context, remote string) []byte {
	m.t.Helper()
	body, err := m.VM.Get(ctx, remote)
	m.check(err)
	return body
}

// WaitUnit waits until a systemd unit is in a state: an ActiveState, or "ActiveState/SubState".
func (m *Machine) WaitUnit(ctx context.Context, unit, state string) {
	m.t.Helper()
	m.check(m.VM.WaitUnit(ctx, unit, state))
}

// WaitFile waits until a path exists.
func (m *Machine) WaitFile(ctx context.Context, path string) {
	m.t.Helper()
	m.check(m.VM.WaitFile(ctx, path))
}

// WaitGone waits until a path does not exist.
func (m *Machine) WaitGone(ctx context.Context, path string) {
	m.t.Helper()
	m.check(m.VM.WaitGone(ctx, path))
}

// WaitProcessEnd waits until the process has ended.
func (m *Machine) WaitProcessEnd(ctx context.Context, pid int) {
	m.t.Helper()
	m.check(m.VM.WaitProcessEnd(ctx, pid))
}

// WaitFor waits until a shell script succeeds as root.
func (m *Machine) WaitFor(ctx context.Context, what, script string) {
	m.t.Helper()
	m.check(m.VM.WaitFor(ctx, what, script))
}

// WaitForAs waits until a shell script succeeds as a user.
func (m *Machine) WaitForAs(ctx context.Context, user, what, script string) {
	m.t.Helper()
	m.check(m.VM.WaitForAs(ctx, user, what, script))
}

// Watch listens to the guest's system bus from now on.
func (m *Machine) Watch(ctx context.Context, rules ...string) *Watch {
	m.t.Helper()
	w, err := m.VM.Watch(ctx, rules...)
	m.check(err)
	return w
}

// Await returns the next signal of the watch that satisfies ok.
func (m *Machine) Await(ctx context.Context, w *Watch, ok func(Signal) bool) Signal {
	m.t.Helper()
	s, err := w.Await(ctx, ok)
	m.check(err)
	return s
}

// Reboot restarts the guest and returns when the agent of the new boot answers.
func (m *Machine) Reboot(ctx context.Context) {
	m.t.Helper()
	m.check(m.VM.Reboot(ctx))
}

// WaitCompositor waits until the compositor answers its IPC.
func (m *Machine) WaitCompositor(ctx context.Context) {
	m.t.Helper()
	m.check(m.VM.WaitCompositor(ctx))
}

// WaitDesktop waits until the compositor answers its IPC and there is an audio sink.
func (m *Machine) WaitDesktop(ctx context.Context) {
	m.t.Helper()
	m.check(m.VM.WaitDesktop(ctx))
}

// CompositorPID is the pid of alice's compositor, 0 when none runs.
func (m *Machine) CompositorPID(ctx context.Context) int {
	m.t.Helper()
	pid, err := m.VM.CompositorPID(ctx)
	m.check(err)
	return pid
}

// CompositorAnswers says whether the compositor answers its IPC.
func (m *Machine) CompositorAnswers(ctx context.Context) bool {
	m.t.Helper()
	answers, err := m.VM.CompositorAnswers(ctx)
	m.check(err)
	return answers
}
