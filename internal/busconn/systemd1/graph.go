package systemd1

import (
	"context"
	"fmt"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/observer"
)

// Graph reads every loaded unit with what ties it to others. target is loaded
// first, and with it what it would pull in. It is one call for each unit, several
// at a time; a unit that goes away meanwhile is left out. The units change while
// they are read: whoever acts on the answer reads again afterwards.
func (c *Client) Graph(ctx context.Context, target string) (observer.UnitGraph, error) {
	if _, err := c.Load(ctx, target); err != nil && !NoUnit(err) {
		return nil, fmt.Errorf("cannot load %s: %w", target, err)
	}
	rows, err := c.rows(ctx)
	if err != nil {
		return nil, err
	}
	units := make([]*observer.GraphUnit, len(rows))
	err = busconn.Parallel(len(rows), func(i int) (err error) {
		units[i], err = c.graphUnit(ctx, rows[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	graph := make(observer.UnitGraph, len(rows))
	for i, u := range units {
		if u != nil {
			graph[rows[i].Name] = *u
		}
	}
	return graph, nil
}

// graphUnit reads one unit, nil when it has gone. The type of its job is the
// list's word: the property tells only the job's number.
func (c *Client) graphUnit(ctx context.Context, row unitRow) (*observer.GraphUnit, error) {
	p, err := c.bus.Properties(ctx, Name, row.Path, unitInterface)
	if NoUnit(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", row.Name, err)
	}
	r := p.Read()
	u := observer.GraphUnit{
		Names: r.Strings("Names"), LoadState: r.String("LoadState"), ActiveState: r.String("ActiveState"), Job: row.JobType,
		AllowIsolate: r.Bool("AllowIsolate"), IgnoreOnIsolate: r.Bool("IgnoreOnIsolate"),
		StopWhenUnneeded: r.Bool("StopWhenUnneeded"), Perpetual: r.Bool("Perpetual"), Transient: r.Bool("Transient"),
		Relations: map[observer.Relation][]string{},
	}
	for _, relation := range observer.Relations() {
		if others := r.Strings(string(relation)); len(others) > 0 {
			u.Relations[relation] = others
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", row.Name, err)
	}
	return &u, nil
}

// unitRow is one unit as ListUnits gives it (ssssssouso).
type unitRow struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func (c *Client) rows(ctx context.Context) ([]unitRow, error) {
	var rows []unitRow
	body, err := c.call(ctx, "ListUnits")
	if err == nil {
		err = dbus.Store(body, &rows)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	return rows, nil
}
