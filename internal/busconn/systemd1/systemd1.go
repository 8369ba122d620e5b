// Package systemd1 is a client of org.freedesktop.systemd1 (man 5
// org.freedesktop.systemd1): it reads units, runs jobs, and subscribes to changes.
//
// Errors are error replies of systemd, or those of busconn.Bus.Call.
package systemd1

import (
	"context"
	"fmt"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/observer"
)

// The names on the bus.
const (
	Name             = "org.freedesktop.systemd1"
	Path             = "/org/freedesktop/systemd1"
	managerInterface = Name + ".Manager"
	unitInterface    = Name + ".Unit"
)

// The error replies that are handled.
const (
	ErrOnlyByDependency = Name + ".OnlyByDependency"
	errNoSuchUnit       = Name + ".NoSuchUnit"
	errSubscribed       = Name + ".AlreadySubscribed"
	errUnknownObject    = "org.freedesktop.DBus.Error.UnknownObject"
)

// NoUnit reports whether err means that there is no such unit.
func NoUnit(err error) bool { return busconn.IsError(err, errNoSuchUnit, errUnknownObject) }

// Client calls the system manager.
type Client struct{ bus *busconn.Bus }

// New returns a client on bus.
func New(bus *busconn.Bus) *Client { return &Client{bus} }

// Bus is the connection that the client uses.
func (c *Client) Bus() *busconn.Bus { return c.bus }

func (c *Client) call(ctx context.Context, method string, args ...any) ([]any, error) {
	return c.bus.Call(ctx, Name, Path, managerInterface+"."+method, args...)
}

// Subscribe makes the manager send signals, which it does only while a client is
// subscribed. It is no error to be subscribed already.
func (c *Client) Subscribe(ctx context.Context) error {
	_, err := c.call(ctx, "Subscribe")
	if busconn.IsError(err, errSubscribed) {
		return nil
	}
	return err
}

// State is the manager's SystemState: initializing, starting, running, degraded,
// maintenance, stopping.
func (c *Client) State(ctx context.Context) (string, error) {
	value, err := c.bus.Property(ctx, Name, Path, managerInterface, "SystemState")
	if err != nil {
		return "", err
	}
	state, ok := value.Value().(string)
	if !ok {
		return "", fmt.Errorf("the property SystemState has an unexpected type")
	}
	return state, nil
}

// Load returns the object of a unit by its name or alias. A unit without a file has an
// object as well, in the load state not-found.
func (c *Client) Load(ctx context.Context, unit string) (dbus.ObjectPath, error) {
	return busconn.Single[dbus.ObjectPath](c.call(ctx, "LoadUnit", unit))
}

// Units reads units by their names or aliases, in that order: one call lists them, and
// then each that exists is read. One that does not exist is returned as not-found and
// inactive.
func (c *Client) Units(ctx context.Context, names []string) ([]observer.Unit, error) {
	rows, err := readRows(c.call(ctx, "ListUnitsByNames", names))
	if err != nil {
		return nil, fmt.Errorf("cannot list the units: %w", err)
	}
	units := make([]observer.Unit, len(names))
	return units, busconn.Parallel(len(names), func(i int) (err error) {
		switch {
		case len(rows) != len(names): // the reply leaves out invalid names
			units[i], err = c.Unit(ctx, names[i])
		case rows[i].Load == "not-found" && rows[i].Active == "inactive" && rows[i].JobID == 0:
			units[i] = absent(names[i])
		default:
			units[i], err = c.UnitAt(ctx, names[i], rows[i].Path)
		}
		return err
	})
}

// Matching lists the names of the loaded units that match a shell pattern; none for an
// empty one.
func (c *Client) Matching(ctx context.Context, pattern string) ([]string, error) {
	if pattern == "" {
		return nil, nil
	}
	rows, err := readRows(c.call(ctx, "ListUnitsByPatterns", []string{}, []string{pattern}))
	if err != nil {
		return nil, fmt.Errorf("cannot list the units %s: %w", pattern, err)
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Name
	}
	return names, nil
}

func absent(unit string) observer.Unit {
	return observer.Unit{ID: unit, LoadState: "not-found", ActiveState: "inactive", SubState: "dead"}
}

// Unit reads a unit by its name. One that does not exist is returned as not-found and
// inactive, without an error.
func (c *Client) Unit(ctx context.Context, unit string) (observer.Unit, error) {
	at, err := c.Load(ctx, unit)
	if err != nil {
		return noUnit(unit, err)
	}
	return c.UnitAt(ctx, unit, at)
}

// UnitAt is Unit for a known object.
func (c *Client) UnitAt(ctx context.Context, unit string, at dbus.ObjectPath) (observer.Unit, error) {
	p, err := c.bus.Properties(ctx, Name, at, unitInterface)
	if err != nil {
		return noUnit(unit, err)
	}
	r := p.Read()
	u := observer.Unit{
		ID: r.String("Id"), LoadState: r.String("LoadState"), ActiveState: r.String("ActiveState"),
		SubState: r.String("SubState"), UnitFile: r.String("UnitFileState"), AllowIsolate: r.Bool("AllowIsolate"),
		Job: r.Number("Job"), InvocationID: r.Hex("InvocationID"),
		ActiveSince: r.Time("ActiveEnterTimestamp"),
	}
	if err := r.Err(); err != nil {
		return observer.Unit{}, fmt.Errorf("cannot read %s: %w", unit, err)
	}
	if u.Failed() {
		u.Result = c.resultAt(ctx, u.ID, at)
	}
	if isSlice(u.ID) && u.Loaded() {
		s, err := c.sliceAt(ctx, unit, at)
		if err != nil {
			return observer.Unit{}, err
		}
		u.Properties = s.Properties
	}
	return u, nil
}

func noUnit(unit string, err error) (observer.Unit, error) {
	if NoUnit(err) {
		return absent(unit), nil
	}
	return observer.Unit{}, fmt.Errorf("cannot read %s: %w", unit, err)
}

// properties reads an interface of a unit. The unit is asked for by name each
// time: an alias may lead elsewhere after a reload.
func (c *Client) properties(ctx context.Context, unit, iface string) (busconn.Properties, error) {
	at, err := c.Load(ctx, unit)
	if err != nil {
		return nil, err
	}
	return c.bus.Properties(ctx, Name, at, iface)
}

// Service has properties of services beyond those of units.
type Service struct {
	Type            string
	RemainAfterExit bool
	Result          string
}

// Service reads a service by its name.
func (c *Client) Service(ctx context.Context, unit string) (Service, error) {
	p, err := c.properties(ctx, unit, Name+".Service")
	if err != nil {
		return Service{}, fmt.Errorf("cannot read %s: %w", unit, err)
	}
	r := p.Read()
	s := Service{r.String("Type"), r.Bool("RemainAfterExit"), r.String("Result")}
	if err := r.Err(); err != nil {
		return Service{}, fmt.Errorf("cannot read %s: %w", unit, err)
	}
	return s, nil
}

// Result is the result of the unit's last run, e.g. exit-code; empty if its type has no
// such property or it cannot be read.
func (c *Client) Result(ctx context.Context, unit string) string {
	at, err := c.Load(ctx, unit)
	if err != nil {
		return ""
	}
	return c.resultAt(ctx, unit, at)
}

func (c *Client) resultAt(ctx context.Context, unit string, at dbus.ObjectPath) string {
	kind := unit[strings.LastIndexByte(unit, '.')+1:]
	switch kind {
	case "service", "socket", "timer", "path", "mount", "swap", "scope":
	default:
		return ""
	}
	iface := Name + "." + strings.ToUpper(kind[:1]) + kind[1:]
	value, err := c.bus.Property(ctx, Name, at, iface, "Result")
	if err != nil {
		return ""
	}
	result, _ := value.Value().(string)
	return result
}

// Row is a loaded unit as listed.
type Row struct {
	Name, ActiveState string
	Path              dbus.ObjectPath
}

// List lists the loaded units.
func (c *Client) List(ctx context.Context) ([]Row, error) {
	rows, err := c.rows(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Row, len(rows))
	for i, r := range rows {
		list[i] = Row{r.Name, r.Active, r.Path}
	}
	return list, nil
}

// Transient reports whether the unit was created over the bus, and so cannot be started
// again.
func (c *Client) Transient(ctx context.Context, at dbus.ObjectPath) (bool, error) {
	value, err := c.bus.Property(ctx, Name, at, unitInterface, "Transient")
	if err != nil {
		return false, err
	}
	transient, ok := value.Value().(bool)
	if !ok {
		return false, fmt.Errorf("the property Transient has an unexpected type")
	}
	return transient, nil
}
