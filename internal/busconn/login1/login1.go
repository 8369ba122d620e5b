// Package login1 is the part of org.freedesktop.login1 that the modes need
// (man 5 org.freedesktop.login1): reading sessions, ending them, and hearing of
// changes.
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

// Client talks to logind.
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

// Users lists whom logind keeps a user manager for: who is logged in, who has just
// been, and who lingers.
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

// Inhibitors lists what programs hold logind back from.
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

// Preparing says whether the machine is on its way to sleep or to a shutdown.
func (c *Client) Preparing(ctx context.Context) (sleep, shutdown bool, err error) {
	answers := make([]bool, 2)
	err = busconn.Parallel(len(answers), func(i int) error {
		property := []string{"PreparingForSleep", "PreparingForShutdown"}[i]
		value, err := c.bus.Property(ctx, Name, path, managerInterface, property)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", property, err)
		}
		answer, ok := value.Value().(bool)
		if !ok {
			return fmt.Errorf("its property %s is not as documented", property)
		}
		answers[i] = answer
		return nil
	})
	return answers[0], answers[1], err
}

// gone reports whether err says that there is no such session.
func gone(err error) bool {
	return busconn.IsError(err, Name+".NoSuchSession", "org.freedesktop.DBus.Error.UnknownObject")
}

// Terminate asks logind to end a session. One that is gone is fine.
func (c *Client) Terminate(ctx context.Context, id string) error {
	return c.end(ctx, "TerminateSession", id)
}

// Kill sends a signal to every process of a session. One that is gone is fine.
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

// Listen hears of sessions and inhibitors that come, go or change, and of the
// machine's sleep and end. logind needs no asking to send its signals. woken,
// unless nil, is called when the machine has woken up; it must not block.
func (c *Client) Listen(ctx context.Context, woken func()) (*busconn.Listener, error) {
	hear := func(s *dbus.Signal) {
		if s.Name != managerInterface+".PrepareForSleep" || len(s.Body) != 1 || woken == nil {
			return
		}
		if before, ok := s.Body[0].(bool); ok && !before {
			woken()
		}
	}
	return c.bus.Listen(ctx, Name, hear,
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
