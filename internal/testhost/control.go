package testhost

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

// bootBarrier is what a booting machine waits for.
const bootBarrier = "plymouth-quit-wait.service"

// RestartSystemd and RestartLogind take the service off the bus and bring it
// back under a new unique name. What it knew stays; who subscribed must do so
// again, and calls in between find nobody.
func (h *Host) RestartSystemd() error {
	h.systemd.disconnect()
	h.mu.Lock()
	clear(h.systemd.subscribed)
	h.mu.Unlock()
	return h.systemd.connect(h.address)
}

// RestartLogind does it with logind.
func (h *Host) RestartLogind() error {
	h.login.disconnect()
	return h.login.connect(h.address)
}

// Do calls f with the model, under the lock. What f starts is done after it.
func (h *Host) Do(f func(*sim.Model)) {
	leave := h.enter()
	defer leave()
	f(h.model)
}

func (h *Host) try(f func(*sim.Model) error) error {
	var err error
	h.Do(func(m *sim.Model) { err = f(m) })
	return err
}

// FinishBoot lets a machine started with Booting go on.
func (h *Host) FinishBoot() error { return h.SetFault(bootBarrier, Fault{}) }

// AddUnit installs a unit file, or replaces one.
func (h *Host) AddUnit(u Unit) { h.Do(func(m *sim.Model) { m.AddUnit(u) }) }

// EditUnit changes a unit file and reloads.
func (h *Host) EditUnit(name string, edit func(*Unit)) error {
	return h.try(func(m *sim.Model) error { return m.Edit(name, edit) })
}

// Mask and Unmask are `systemctl mask` and `unmask`.
func (h *Host) Mask(name string) error {
	return h.try(func(m *sim.Model) error { return m.Mask(name, true) })
}

// Unmask takes the mask away.
func (h *Host) Unmask(name string) error {
	return h.try(func(m *sim.Model) error { return m.Mask(name, false) })
}

// SetActive puts a unit into a state without a job: active, inactive, failed.
func (h *Host) SetActive(name, state string) error {
	return h.try(func(m *sim.Model) error { return m.SetActive(name, state) })
}

// SetFault says what goes wrong with a unit's jobs from now on; the zero Fault
// heals it, and jobs that hang go on.
func (h *Host) SetFault(name string, f Fault) error {
	return h.try(func(m *sim.Model) error { return m.SetFault(name, f) })
}

// Fail makes a unit's next starts fail.
func (h *Host) Fail(name string) error { return h.SetFault(name, Fault{FailStart: true}) }

// Hang makes a unit's jobs hang, starts and stops.
func (h *Host) Hang(name string) error {
	return h.SetFault(name, Fault{HangStart: true, HangStop: true})
}

// Heal takes a unit's faults away.
func (h *Host) Heal(name string) error { return h.SetFault(name, Fault{}) }

// Slow makes a unit's starts and stops take a while.
func (h *Host) Slow(name string, d time.Duration) error {
	return h.EditUnit(name, func(u *Unit) { u.StartTakes, u.StopTakes = d, d })
}

// Crash ends a unit's program: result is exit-code, signal, oom-kill, success.
func (h *Host) Crash(name, result string) error {
	return h.try(func(m *sim.Model) error { return m.Crash(name, result) })
}

// StartUnit and StopUnit queue jobs, as somebody else on the machine might.
func (h *Host) StartUnit(name, mode string) error {
	return h.try(func(m *sim.Model) error { _, err := m.Enqueue(name, "start", mode); return err })
}

// StopUnit queues a stop job.
func (h *Host) StopUnit(name, mode string) error {
	return h.try(func(m *sim.Model) error { _, err := m.Enqueue(name, "stop", mode); return err })
}

// Unit is a unit as it is now.
func (h *Host) Unit(name string) (sim.UnitStatus, error) {
	leave := h.enter()
	defer leave()
	return h.model.Unit(name)
}

// Sessions lists the sessions, those of user managers too.
func (h *Host) Sessions() []Session {
	leave := h.enter()
	defer leave()
	return h.model.Sessions()
}

// SessionOf finds a session by its class: user, greeter.
func (h *Host) SessionOf(class string) (Session, bool) {
	return sessionOf(h.Sessions(), class)
}

func sessionOf(sessions []Session, class string) (Session, bool) {
	for _, s := range sessions {
		if s.Class == class {
			return s, true
		}
	}
	return Session{}, false
}

// Login logs alice in at the seat; the greeter makes way.
func (h *Host) Login(user string) (id string, err error) {
	err = h.try(func(m *sim.Model) error { id, err = m.Login(user); return err })
	return id, err
}

// Logout is an ordinary end of a session.
func (h *Host) Logout(id string) error {
	return h.try(func(m *sim.Model) error { return m.Logout(id) })
}

// AddSession opens a session that the seat knows nothing of, say one over ssh.
func (h *Host) AddSession(s Session, programs ...Program) (id string) {
	h.Do(func(m *sim.Model) { id = m.OpenSession(s, programs...) })
	return id
}

// EditSession changes hints and faults (IgnoresTerm, Stuck) of a session.
func (h *Host) EditSession(id string, edit func(*Session)) error {
	return h.try(func(m *sim.Model) error { return m.EditSession(id, edit) })
}

// AttachPID makes a real process, say a test's client, a member of a session.
func (h *Host) AttachPID(pid int, session string) {
	h.Do(func(m *sim.Model) { m.AttachPID(pid, session) })
}

// AddInhibitor holds a logind inhibitor until release is called.
func (h *Host) AddInhibitor(i sim.Inhibitor) (release func()) {
	var cookie int
	h.Do(func(m *sim.Model) { cookie = m.AddInhibitor(i) })
	return func() { h.Do(func(m *sim.Model) { m.RemoveInhibitor(cookie) }) }
}

// PrepareForShutdown and PrepareForSleep send logind's signals.
func (h *Host) PrepareForShutdown(active bool) {
	h.Do(func(m *sim.Model) { m.Prepare("Shutdown", active) })
}

// PrepareForSleep sends the signal.
func (h *Host) PrepareForSleep(active bool) {
	h.Do(func(m *sim.Model) { m.Prepare("Sleep", active) })
}

// AddProcess shows a process that belongs to no unit of the model, say a
// foreign holder of a device; RemoveProcess ends it.
func (h *Host) AddProcess(p Process) (pid int) {
	h.Do(func(m *sim.Model) { pid = m.AddProcess(p) })
	return pid
}

// RemoveProcess ends a process.
func (h *Host) RemoveProcess(pid int) { h.Do(func(m *sim.Model) { m.RemoveProcess(pid) }) }

// Processes is the simulated process table.
func (h *Host) Processes() []Process {
	leave := h.enter()
	defer leave()
	return h.model.Processes()
}

// WriteFile replaces a file of the tree: "proc/loadavg", "proc/meminfo", ...
func (h *Host) WriteFile(path, content string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tree.write(path, content)
	return h.tree.err
}

// ReadFile reads a file of the tree.
func (h *Host) ReadFile(path string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	data, err := os.ReadFile(filepath.Join(h.Root(), path))
	return string(data), err
}

// RemoveFile takes a file of the tree away.
func (h *Host) RemoveFile(path string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return os.Remove(filepath.Join(h.Root(), path))
}

// Wait returns when the condition holds; it looks again after every event.
func (h *Host) Wait(ctx context.Context, what string, condition func(*sim.Model) bool) error {
	for {
		leave := h.enter()
		met, changed := condition(h.model), h.changed
		leave()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("cannot wait any longer until %s: %w", what, ctx.Err())
		case <-h.ctx.Done():
			return fmt.Errorf("cannot wait until %s: the host is closed", what)
		}
	}
}

// WaitUnit waits until a unit is in a state and has no job.
func (h *Host) WaitUnit(ctx context.Context, name, state string) error {
	return h.Wait(ctx, name+" is "+state, func(m *sim.Model) bool {
		u, err := m.Unit(name)
		return err == nil && u.ActiveState == state && u.Job.ID == 0
	})
}

// WaitSession waits until a session of a class is there, or is not.
func (h *Host) WaitSession(ctx context.Context, class string, there bool) error {
	return h.Wait(ctx, fmt.Sprintf("a %s session is there: %t", class, there), func(m *sim.Model) bool {
		_, ok := sessionOf(m.Sessions(), class)
		return ok == there
	})
}
