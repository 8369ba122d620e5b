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
	}
	return &s, r.Err()
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

// Listen hears of sessions that come, go or change. logind needs no asking to
// send its signals.
func (c *Client) Listen(ctx context.Context) (*busconn.Listener, error) {
	return c.bus.Listen(ctx, Name, nil,
		busconn.Rule{Path: path, Interface: managerInterface, Member: "SessionNew"},
		busconn.Rule{Path: path, Interface: managerInterface, Member: "SessionRemoved"},
		busconn.Rule{
			Below: path + "/session", Interface: "org.freedesktop.DBus.Properties", Member: "PropertiesChanged",
			Arg0: sessionInterface,
		})
}
