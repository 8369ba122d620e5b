package systemd1_test

import (
	"context"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
)

func TestAJobsEndIsHeardWhenItCameBeforeTheWait(t *testing.T) {
	f, c := newFake(t)
	jobs, err := c.WatchJobs(bounded(t))
	require.NoError(t, err)
	defer jobs.Close()
	f.removed("done")
	result, err := jobs.Wait(bounded(t), job)
	require.NoError(t, err)
	require.Equal(t, systemd1.ResultDone, result)
}

func TestAMisshapenSignalIsNoEnd(t *testing.T) {
	f, c := newFake(t)
	result, _ := waiting(t, c)
	for _, body := range [][]any{
		{},
		{job},
		{uint32(7), string(job), "a.service", "done"},
		{uint32(7), job, "a.service", uint32(1)},
		{uint32(7), job, "a.service", "done", "more"},
	} {
		f.emit(systemd1.Path, manager+".JobRemoved", body...)
	}
	f.emit("/org/freedesktop/elsewhere", manager+".JobRemoved", uint32(7), job, "a.service", "canceled")
	f.removed("timeout")
	require.Equal(t, "timeout", receive(t, result))
}

func TestAForgedEndEndsNothing(t *testing.T) {
	f, c := newFake(t)
	result, _ := waiting(t, c)
	forger := bustest.Peer(t, f.address)
	require.NoError(t, forger.Emit(systemd1.Path, manager+".JobRemoved", uint32(7), job, "a.service", "done"))
	require.NoError(t, forger.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err)
	f.removed("failed")
	require.Equal(t, "failed", receive(t, result))
}

func TestAJobOutlivesItsManagersRestart(t *testing.T) {
	f, c := newFake(t)
	result, _ := waiting(t, c)
	f.vanish()
	f.set(func() {
		f.jobs = []systemd1.Job{{ID: 7, Unit: "a.service", Type: "start", State: "running", Path: job, UnitPath: "/"}}
	})
	f.appear()
	f.await(2)
	f.removed("done")
	require.Equal(t, "done", receive(t, result))
}

func TestAJobWhoseEndWasMissedIsLost(t *testing.T) {
	f, c := newFake(t)
	result, _ := waiting(t, c)
	f.vanish()
	f.appear()
	require.Equal(t, systemd1.ResultLost, receive(t, result))
}

// The end is told between the call and its reply: it was not missed.
func TestAJobThatEndsWhileItIsLookedForIsNotLost(t *testing.T) {
	f, c := newFake(t)
	result, _ := waiting(t, c)
	f.vanish()
	f.set(func() {
		f.onList = func() { _ = f.conn.Emit(systemd1.Path, manager+".JobRemoved", uint32(7), job, "a.service", "done") }
	})
	f.appear()
	require.Equal(t, "done", receive(t, result))
}

func TestAManagerThatStaysAwayIsAnError(t *testing.T) {
	f, c := newFake(t)
	c.Bus().SetAbsence(time.Millisecond)
	_, failed := waiting(t, c)
	f.vanish()
	require.EqualError(t, receive(t, failed), "its job has not ended: org.freedesktop.systemd1 has left the bus")
}

func TestAWaitEndsWithItsContextAndWithTheBus(t *testing.T) {
	_, c := newFake(t)
	jobs, err := c.WatchJobs(bounded(t))
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = jobs.Wait(soon, job)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	c.Bus().Close()
	_, err = jobs.Wait(bounded(t), job)
	require.ErrorIs(t, err, busconn.ErrDisconnected)
}

func TestAUnitThatAnswersOtherwiseIsAnError(t *testing.T) {
	f, c := newFake(t)
	good := map[string]dbus.Variant{
		"Id": dbus.MakeVariant("a.service"), "LoadState": dbus.MakeVariant("loaded"),
		"ActiveState": dbus.MakeVariant("active"),
		"SubState":    dbus.MakeVariant("running"), "UnitFileState": dbus.MakeVariant(""),
		"AllowIsolate": dbus.MakeVariant(false),
		"Job": dbus.MakeVariant(struct {
			ID   uint32
			Path dbus.ObjectPath
		}{3, "/"}),
		"InvocationID": dbus.MakeVariant([]byte{1}), "ActiveEnterTimestamp": dbus.MakeVariant(uint64(1e6)),
	}
	f.set(func() { f.units = good })
	u, err := c.Unit(bounded(t), "a.service")
	require.NoError(t, err)
	require.EqualValues(t, 3, u.Job)
	require.Equal(t, "01", u.InvocationID)
	for property := range good {
		f.set(func() {
			f.units = map[string]dbus.Variant{property: dbus.MakeVariant(1.5)}
			for name, value := range good {
				if name != property {
					f.units[name] = value
				}
			}
		})
		_, err := c.Unit(bounded(t), "a.service")
		require.ErrorContains(t, err, "cannot read a.service: the property "+property)
	}
	_, err = c.State(bounded(t))
	require.ErrorContains(t, err, "SystemState has an unexpected type")
}

func TestAManagerThatComesBackIsWatchedAnew(t *testing.T) {
	f, c := newFake(t)
	pokes := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Watch(ctx, []string{"a.service", "b.service", "none.service"}, "", func(map[string]dbus.ObjectPath) {
			select {
			case pokes <- struct{}{}:
			default:
			}
		})
	}()
	receive(t, pokes)
	f.vanish()
	receive(t, pokes) // a look says now that systemd is away
	f.appear()
	f.await(2)
	receive(t, pokes)
	f.emit(
		path("b.service"), "org.freedesktop.DBus.Properties.PropertiesChanged", unit, map[string]dbus.Variant{},
		[]string{},
	)
	receive(t, pokes)

	f.set(func() {
		require.ElementsMatch(t, []string{"a.service", "b.service", "a.service", "b.service"}, f.held,
			"by each manager once")
		f.loaded, f.held = nil, nil
	})
	f.emit(systemd1.Path, manager+".Reloading", false)
	receive(t, pokes)
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.loaded) == 3
	}, 10*time.Second, time.Millisecond, "after a reload names are resolved again")
	// It follows no further before it has heard this.
	f.emit(systemd1.Path, manager+".Reloading", false)
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.loaded) == 6
	}, 10*time.Second, time.Millisecond)
	f.set(func() { require.Empty(t, f.held, "a reload keeps them loaded") })
	cancel()
	require.ErrorIs(t, receive(t, ended), context.Canceled)
}
