package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

const (
	systemdName    = "org.freedesktop.systemd1"
	systemdPath    = dbus.ObjectPath("/org/freedesktop/systemd1")
	systemdManager = systemdName + ".Manager"
	systemdUnit    = systemdName + ".Unit"
)

// collector is a dbus.SignalHandler that never drops, never reorders and never blocks the connection's reader.
// godbus's own handler starts a goroutine for each signal that finds its channel full.
type collector struct {
	mu      sync.Mutex
	signals []*dbus.Signal
	wake    chan struct{}
}

func newCollector() *collector { return &collector{wake: make(chan struct{}, 1)} }

// DeliverSignal implements dbus.SignalHandler.
func (c *collector) DeliverSignal(_, _ string, s *dbus.Signal) {
	c.mu.Lock()
	c.signals = append(c.signals, s)
	c.mu.Unlock()
	notify(c.wake)
}

func (c *collector) take() []*dbus.Signal {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.signals
	c.signals = nil
	return taken
}

// connect opens a connection of its own for each use: a shared one would not survive a restart of the bus.
func connect(ctx context.Context) (*dbus.Conn, *collector, error) {
	signals := newCollector()
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx), dbus.WithSignalHandler(signals))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot reach the system bus: %w", err)
	}
	return conn, signals, nil
}

func subscribe(conn *dbus.Conn, rules []string) error {
	for _, rule := range rules {
		if err := conn.BusObject().Call("org.freedesktop.DBus.AddMatch", 0, rule).Err; err != nil {
			return fmt.Errorf("cannot subscribe to %s: %w", rule, err)
		}
	}
	return nil
}

// watch streams the signals that match the rules until the host cancels it. Ready says that none can be missed.
func (st *stream) watch(ctx context.Context, req wire.Watch) error {
	conn, signals, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := subscribe(conn, req.Rules); err != nil {
		return err
	}
	signals.take() // the bus's own greeting
	if err := st.ready(0); err != nil {
		return err
	}
	lines := json.NewEncoder(st.output(wire.Output))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-conn.Context().Done():
			return fmt.Errorf("cannot watch the system bus: the connection ended")
		case <-signals.wake:
			for _, s := range signals.take() {
				if err := lines.Encode(describe(s)); err != nil {
					return fmt.Errorf("cannot pass a signal on: %w", err)
				}
			}
		}
	}
}

func describe(s *dbus.Signal) wire.BusSignal {
	iface, member := splitName(s.Name)
	args := make([]any, len(s.Body))
	for i, v := range s.Body {
		args[i] = plain(v)
	}
	return wire.BusSignal{
		Time: time.Now(), Sender: s.Sender, Path: string(s.Path), Interface: iface, Member: member, Args: args,
	}
}

// waitUnit listens to systemd and looks again after each signal. The bus may be away for a while during a test.
func waitUnit(ctx context.Context, unit, want string) error {
	what := fmt.Sprintf("%s to be %s", unit, want)
	conn, signals, err := connectSystemd(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return until(ctx, what, signals.wake, secondLook, func(ctx context.Context) (bool, string) {
		signals.take()
		active, sub, err := unitState(ctx, conn, unit)
		if err != nil {
			return false, err.Error()
		}
		return want == active || want == active+"/"+sub, active + "/" + sub
	})
}

// connectSystemd keeps trying until the bus is up: a test may wait for a unit of a machine that still boots.
func connectSystemd(ctx context.Context) (*dbus.Conn, *collector, error) {
	var conn *dbus.Conn
	var signals *collector
	err := until(ctx, "the system bus", nil, secondLook, func(context.Context) (bool, string) {
		var err error
		if conn, signals, err = connect(ctx); err == nil {
			err = subscribe(conn, []string{"type='signal',sender='" + systemdName + "'"})
		}
		if err == nil {
			err = conn.Object(systemdName, systemdPath).CallWithContext(ctx, systemdManager+".Subscribe", 0).Err
		}
		if err != nil {
			if conn != nil {
				conn.Close()
			}
			return false, err.Error()
		}
		return true, ""
	})
	return conn, signals, err
}

func unitState(ctx context.Context, conn *dbus.Conn, unit string) (active, sub string, err error) {
	var path dbus.ObjectPath
	manager := conn.Object(systemdName, systemdPath)
	if err := manager.CallWithContext(ctx, systemdManager+".LoadUnit", 0, unit).Store(&path); err != nil {
		return "", "", fmt.Errorf("cannot load %s: %w", unit, err)
	}
	var props map[string]dbus.Variant
	get := conn.Object(systemdName, path).CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, systemdUnit)
	if err := get.Store(&props); err != nil {
		return "", "", fmt.Errorf("cannot read the state of %s: %w", unit, err)
	}
	active, _ = props["ActiveState"].Value().(string)
	sub, _ = props["SubState"].Value().(string)
	return active, sub, nil
}
