package systemd1

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/observer/unitgraph"
)

// Graph reads every loaded unit with its dependencies, and the units that a start of target would load. It
// makes one call for each unit, several at a time; a unit that is unloaded meanwhile is left out. The units
// change while they are read: a caller that acts on the answer has to verify the result.
func (c *Client) Graph(ctx context.Context, target string) (unitgraph.Graph, error) {
	return c.graph(ctx, target, c.graphUnit)
}

// unitReader reads one unit; the id is empty for one that is no longer loaded.
type unitReader func(ctx context.Context, row unitRow) (id string, u unitgraph.Unit, err error)

func (c *Client) graph(ctx context.Context, target string, read unitReader) (unitgraph.Graph, error) {
	rows, err := c.rows(ctx)
	if err != nil {
		return nil, err
	}
	// A machine has hundreds of devices. Those that a unit names are read below, and the others cannot stop.
	rows = slices.DeleteFunc(rows, func(r unitRow) bool { return strings.HasSuffix(r.Name, ".device") })
	graph, known := make(unitgraph.Graph, len(rows)), map[string]bool{}
	if err := readInto(ctx, graph, known, rows, read); err != nil {
		return nil, err
	}
	// The manager unloads an inactive unit that no loaded unit refers to. What the target would pull in is
	// loaded by LoadUnit, which may bring further names, until none is missing.
	for missing := missingUnits(graph, known, target); len(missing) > 0; missing = missingUnits(graph, known, target) {
		rows, err := c.load(ctx, missing)
		if err != nil {
			return nil, err
		}
		if err := readInto(ctx, graph, known, rows, read); err != nil {
			return nil, err
		}
	}
	return graph, nil
}

// pulling are the relations by which a start job pulls other jobs into its transaction.
var pulling = []unitgraph.Relation{
	unitgraph.Requires, unitgraph.Requisite, unitgraph.Wants, unitgraph.BindsTo, unitgraph.Upholds, unitgraph.Conflicts,
}

// missingUnits lists the names that a start of target would pull in and that are not known, and adds them to
// known: each is loaded once, whether there is such a unit or not.
func missingUnits(graph unitgraph.Graph, known map[string]bool, target string) []string {
	ids := make(map[string]string, len(graph))
	for id, u := range graph {
		ids[id] = id
		for _, name := range u.Names {
			ids[name] = id
		}
	}
	var missing []string
	reached := map[string]bool{target: true}
	for queue := []string{target}; len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if !known[name] {
			known[name] = true
			missing = append(missing, name)
			continue
		}
		for _, relation := range pulling {
			for _, other := range graph[ids[name]].Relations[relation] {
				if !reached[other] {
					reached[other] = true
					queue = append(queue, other)
				}
			}
		}
	}
	return missing
}

func (c *Client) load(ctx context.Context, names []string) ([]unitRow, error) {
	rows := make([]unitRow, len(names))
	err := busconn.Parallel(len(names), func(i int) error {
		at, err := c.Load(ctx, names[i])
		rows[i] = unitRow{Name: names[i], Path: at}
		if NoUnit(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot load the units that would start: %w", err)
	}
	return slices.DeleteFunc(rows, func(r unitRow) bool { return r.Path == "" }), nil
}

// readInto adds the units of these rows to graph, and their names to known.
func readInto(
	ctx context.Context, graph unitgraph.Graph, known map[string]bool, rows []unitRow, read unitReader,
) error {
	ids, units := make([]string, len(rows)), make([]unitgraph.Unit, len(rows))
	err := busconn.Parallel(len(rows), func(i int) (err error) {
		ids[i], units[i], err = read(ctx, rows[i])
		return err
	})
	if err != nil {
		return err
	}
	for i, id := range ids {
		if id == "" {
			continue
		}
		graph[id], known[id] = units[i], true
		for _, name := range units[i].Names {
			known[name] = true
		}
	}
	return nil
}

// graphUnit reads one unit; its id is empty when it is no longer loaded. The type of its job is that of the
// row: the property Job has only the job's number.
func (c *Client) graphUnit(ctx context.Context, row unitRow) (id string, u unitgraph.Unit, err error) {
	p, err := c.bus.Properties(ctx, Name, row.Path, unitInterface)
	if NoUnit(err) {
		return "", u, nil
	}
	if err != nil {
		return "", u, fmt.Errorf("cannot read %s: %w", row.Name, err)
	}
	r := p.Read()
	id = r.String("Id")
	u = unitgraph.Unit{
		Names: r.Strings("Names"), LoadState: r.String("LoadState"), ActiveState: r.String("ActiveState"),
		Job: row.JobType, AllowIsolate: r.Bool("AllowIsolate"), IgnoreOnIsolate: r.Bool("IgnoreOnIsolate"),
		StopWhenUnneeded: r.Bool("StopWhenUnneeded"), Perpetual: r.Bool("Perpetual"), Transient: r.Bool("Transient"),
		Relations: map[unitgraph.Relation][]string{},
	}
	for _, relation := range unitgraph.Relations() {
		if others := r.Strings(string(relation)); len(others) > 0 {
			u.Relations[relation] = others
		}
	}
	if err := r.Err(); err != nil {
		return "", u, fmt.Errorf("cannot read %s: %w", row.Name, err)
	}
	return id, u, nil
}

// unitRow is one unit as ListUnits returns it (ssssssouso).
type unitRow struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func (c *Client) rows(ctx context.Context) ([]unitRow, error) {
	rows, err := readRows(c.call(ctx, "ListUnits"))
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	return rows, nil
}

func readRows(body []any, err error) ([]unitRow, error) {
	list, err := busconn.Single[[][]any](body, err)
	if err != nil {
		return nil, err
	}
	rows := make([]unitRow, len(list))
	for i, fields := range list {
		r := &rows[i]
		if !decode(fields, &r.Name, &r.Description, &r.Load, &r.Active, &r.Sub, &r.Following,
			&r.Path, &r.JobID, &r.JobType, &r.JobPath) {
			return nil, fmt.Errorf("a unit in the reply is not of the type (ssssssouso)")
		}
	}
	return rows, nil
}

// decode stores the fields in as many values of their types.
func decode(fields []any, into ...any) bool {
	if len(fields) != len(into) {
		return false
	}
	for i, field := range fields {
		ok := false
		switch to := into[i].(type) {
		case *string:
			*to, ok = field.(string)
		case *uint32:
			*to, ok = field.(uint32)
		case *dbus.ObjectPath:
			*to, ok = field.(dbus.ObjectPath)
		}
		if !ok {
			return false
		}
	}
	return true
}
