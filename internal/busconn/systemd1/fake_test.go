package systemd1_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
)

const (
	manager = systemd1.Name + ".Manager"
	unit    = systemd1.Name + ".Unit"
)

// fake is a manager that does what a test says, and restarts.
type fake struct {
	t       *testing.T
	address string

	mu         sync.Mutex
	conn       *dbus.Conn
	jobs       []systemd1.Job
	subscribed int
	loaded     []string
	held       []string
	units      map[string]dbus.Variant
	// onList and onSubscribe run in ListJobs and Subscribe, before the reply.
	onList, onSubscribe func()
}

// newFake gives a manager that has the name, and a client of it.
func newFake(t *testing.T) (*fake, *systemd1.Client) {
	f := &fake{t: t, address: bustest.Start(t), units: map[string]dbus.Variant{}}
	f.appear()
	return f, systemd1.New(bustest.Connect(t, f.address))
}

// appear connects anew and takes the name, as systemd does after daemon-reexec.
func (f *fake) appear() {
	f.t.Helper()
	conn := bustest.Peer(f.t, f.address)
	require.NoError(f.t, conn.Export(f, systemd1.Path, manager))
	require.NoError(f.t, conn.ExportSubtree(properties{f}, "/org/freedesktop/systemd1",
		"org.freedesktop.DBus.Properties"))
	f.mu.Lock()
	f.conn = conn
	f.mu.Unlock()
	bustest.Own(f.t, conn, systemd1.Name)
}

func (f *fake) vanish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	require.NoError(f.t, f.conn.Close())
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) emit(path dbus.ObjectPath, name string, body ...any) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	require.NoError(f.t, f.conn.Emit(path, name, body...))
}

func (f *fake) subscriptions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.subscribed
}

func (f *fake) Subscribe() *dbus.Error {
	f.set(func() {
		f.subscribed++
		if f.onSubscribe != nil {
			f.onSubscribe()
		}
	})
	return nil
}

func (f *fake) LoadUnit(name string) (dbus.ObjectPath, *dbus.Error) {
	f.set(func() { f.loaded = append(f.loaded, name) })
	return path(name), nil
}

func (f *fake) RefUnit(name string) *dbus.Error {
	if name == "none.service" {
		return dbus.NewError(systemd1.Name+".NoSuchUnit", []any{"Unit none.service not found."})
	}
	f.set(func() { f.held = append(f.held, name) })
	return nil
}

func (f *fake) ListJobs() ([]systemd1.Job, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.onList != nil {
		f.onList()
	}
	return append([]systemd1.Job{}, f.jobs...), nil
}

func path(name string) dbus.ObjectPath {
	return dbus.ObjectPath("/org/freedesktop/systemd1/unit/" + name[:1])
}

// properties answers for every object with what the test put there.
type properties struct{ f *fake }

func (p properties) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	return p.f.units, nil
}

func (p properties) Get(string, string) (dbus.Variant, *dbus.Error) {
	return dbus.MakeVariant(7), nil
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

const job = dbus.ObjectPath("/org/freedesktop/systemd1/job/7")

// waiting watches jobs and waits for one.
func waiting(t *testing.T, c *systemd1.Client) (result <-chan string, failed <-chan error) {
	t.Helper()
	jobs, err := c.WatchJobs(bounded(t))
	require.NoError(t, err)
	t.Cleanup(jobs.Close)
	results, errs := make(chan string, 1), make(chan error, 1)
	ctx := bounded(t)
	go func() {
		result, err := jobs.Wait(ctx, job)
		if err != nil {
			errs <- err
			return
		}
		results <- result
	}()
	return results, errs
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nothing came")
		panic("unreachable")
	}
}

func (f *fake) removed(result any) {
	f.emit(systemd1.Path, manager+".JobRemoved", uint32(7), job, "a.service", result)
}

// await returns when the manager has been subscribed to that often.
func (f *fake) await(subscriptions int) {
	f.t.Helper()
	require.Eventually(f.t, func() bool { return f.subscriptions() >= subscriptions }, 10*time.Second, time.Millisecond)
}
