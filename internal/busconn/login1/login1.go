// Package login1 is a client of org.freedesktop.login1 (man 5 org.freedesktop.login1): it
// reads sessions, ends them, and subscribes to changes.
package login1

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/observer"
)

// The names on the bus.
const (
	Name             = "org.freedesktop.login1"
	path             = "/org/freedesktop/login1"
	managerInterface = Name + ".Manager"
	sessionInterface = Name + ".Session"
)

// Client calls logind.
type Client struct{ bus *busconn.Bus }

// New returns a client on bus.
func New(bus *busconn.Bus) *Client { return &Client{bus} }

// Sessions reads every session. One that ends meanwhile is left out.
func (c *Client) Sessions(ctx context.Context) ([]observer.Session, error) {
	var rows []struct {
		ID   string
		UID  uint32
		User string
		Seat string
		Path dbus.ObjectPath
	}
	body, err := c.bus.Call(ctx, Name, path, managerInterface+".ListSessions")
	if err == nil {
		err = dbus.Store(body, &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list sessions: %w", err)
	}
	all := make([]*observer.Session, len(rows))
	err = busconn.Parallel(len(rows), func(i int) (err error) {
		all[i], err = c.session(ctx, rows[i].Path)
		if err != nil {
			err = fmt.Errorf("cannot read session %s: %w", rows[i].ID, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	sessions := []observer.Session{}
	for _, s := range all {
		if s != nil {
			sessions = append(sessions, *s)
		}
	}
	return sessions, nil
}

// Users lists the uids that logind keeps a user manager for: users with a session or
// lingering, and for some seconds those whose last session has ended.
func (c *Client) Users(ctx context.Context) ([]uint32, error) {
	var rows []struct {
		UID  uint32
		Name string
		Path dbus.ObjectPath
	}
	body, err := c.bus.Call(ctx, Name, path, managerInterface+".ListUsers")
	if err == nil {
		err = dbus.Store(body, &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list users: %w", err)
	}
	users := make([]uint32, len(rows))
	for i, r := range rows {
		users[i] = r.UID
	}
	return users, nil
}

// session reads one session, nil when it is gone.
func (c *Client) session(ctx context.Context, at dbus.ObjectPath) (*observer.Session, error) {
	p, err := c.bus.Properties(ctx, Name, at, sessionInterface)
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := p.Read()
	s := observer.Session{
		ID: r.String("Id"), UID: r.Number("User"), User: r.String("Name"), Class: r.String("Class"),
		Type: r.String("Type"), State: r.String("State"), Seat: r.Name("Seat"), Scope: r.String("Scope"),
		Service: r.String("Service"), Leader: r.Uint32("Leader"), Remote: r.Bool("Remote"),
		Locked: r.Bool("LockedHint"), Idle: r.Bool("IdleHint"), Since: r.Time("Timestamp"),
	}
	return &s, r.Err()
}

// Inhibitors lists the inhibitors of logind.
func (c *Client) Inhibitors(ctx context.Context) ([]observer.Inhibitor, error) {
	var rows []struct {
		What, Who, Why, Mode string
		UID, PID             uint32
	}
	body, err := c.bus.Call(ctx, Name, path, managerInterface+".ListInhibitors")
	if err == nil {
		err = dbus.Store(body, &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list inhibitors: %w", err)
	}
	inhibitors := make([]observer.Inhibitor, len(rows))
	for i, r := range rows {
		inhibitors[i] = observer.Inhibitor{What: r.What, Who: r.Who, Why: r.Why, Mode: r.Mode, UID: r.UID, PID: r.PID}
	}
	return inhibitors, nil
}

// Preparing reports whether the machine is about to sleep or to shut down.
func (c *Client) Preparing(ctx context.Context) (sleep, shutdown bool, err error) {
	values := make([]bool, 2)
	err = busconn.Parallel(len(values), func(i int) error {
		property := []string{"PreparingForSleep", "PreparingForShutdown"}[i]
		value, err := c.bus.Property(ctx, Name, path, managerInterface, property)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", property, err)
		}
		preparing, ok := value.Value().(bool)
		if !ok {
			return fmt.Errorf("the property %s has an unexpected type", property)
		}
		values[i] = preparing
		return nil
	})
	return values[0], values[1], err
}

// gone reports whether err means that there is no such session.
func gone(err error) bool {
	return busconn.IsError(err, Name+".NoSuchSession", "org.freedesktop.DBus.Error.UnknownObject")
}

// Terminate terminates a session. It is no error if the session is gone.
func (c *Client) Terminate(ctx context.Context, id string) error {
	return c.end(ctx, "TerminateSession", id)
}

// Kill sends a signal to every process of a session. It is no error if the session is
// gone.
func (c *Client) Kill(ctx context.Context, id string, signal int32) error {
	return c.end(ctx, "KillSession", id, "all", signal)
}

func (c *Client) end(ctx context.Context, method string, args ...any) error {
	_, err := c.bus.Call(ctx, Name, path, managerInterface+"."+method, args...)
	if gone(err) {
		return nil
	}
	return err
}

// Listen subscribes to changes of sessions and inhibitors, and to sleep and shutdown.
// woken, unless nil, is called after the machine has resumed; it must not block.
func (c *Client) Listen(ctx context.Context, woken func()) (*busconn.Listener, error) {
	handle := func(s *dbus.Signal) {
		if s.Name != managerInterface+".PrepareForSleep" || len(s.Body) != 1 || woken == nil {
			return
		}
		if before, ok := s.Body[0].(bool); ok && !before {
			woken()
		}
	}
	return c.bus.Listen(ctx, Name, handle,
		busconn.Rule{Path: path, Interface: managerInterface, Member: "PrepareForSleep"},
		busconn.Rule{Path: path, Interface: managerInterface, Member: "PrepareForShutdown"},
		busconn.Rule{
			Path: path, Interface: "org.freedesktop.DBus.Properties", Member: "PropertiesChanged",
			Arg0: managerInterface,
		},
		busconn.Rule{Path: path, Interface: managerInterface, Member: "SessionNew"},
		busconn.Rule{Path: path, Interface: managerInterface, Member: "SessionRemoved"},
		busconn.Rule{
			Below: path + "/session", Interface: "org.freedesktop.DBus.Properties", Member: "PropertiesChanged",
			Arg0: sessionInterface,
		})
}
