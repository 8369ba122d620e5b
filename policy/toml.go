package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// parseTOML reads a TOML document: its values, and the position of each key and
// list element by its path. go-toml's decoder has the values and decides whether
// the document is TOML. It stops at the first error and has no positions for values
// that it accepts, so its parser is run before it
// (docs/decisions/0009-one-policy-in-toml.md).
func parseTOML(data []byte) (values map[string]any, positions map[string]*position, faults []syntaxError) {
	p := indexer{data: data, positions: map[string]*position{"": {table: true}}}
	p.index()
	if len(p.faults) == 0 {
		if err := toml.Unmarshal(data, &values); err != nil {
			p.faults = append(p.faults, notTOML(data, err))
		}
	}
	return values, p.positions, p.faults
}

// syntaxError is why a file is not TOML, and the offset of the fault.
type syntaxError struct {
	offset int
	text   string
}

func notTOML(data []byte, err error) syntaxError {
	var wrong *toml.DecodeError
	if !errors.As(err, &wrong) {
		return syntaxError{len(data), strings.TrimPrefix(err.Error(), "toml: ")}
	}
	line, column := wrong.Position()
	offset := column - 1
	for _, text := range strings.SplitAfter(string(data), "\n")[:line-1] {
		offset += len(text)
	}
	return syntaxError{offset, strings.TrimPrefix(wrong.Error(), "toml: ")}
}

// position is where a key and its value begin, as offsets into the file.
type position struct {
	key, value int
	table      bool // a table to which headers and dotted keys may add
	opened     bool // by a header of its own
	tables     int  // of a list of tables: how many it has so far
}

// indexer finds the positions in a document, and the keys that it has twice.
type indexer struct {
	unstable.Parser
	data      []byte
	positions map[string]*position
	faults    []syntaxError
}

func (p *indexer) index() {
	p.Reset(p.data)
	table := ""
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = p.header(e)
		case unstable.KeyValue:
			p.assign(table, e)
		}
	}
	var broken *unstable.ParserError
	switch err := p.Error(); {
	case errors.As(err, &broken):
		p.faults = append(p.faults, syntaxError{int(p.Range(broken.Highlight).Offset), broken.Message})
	case err != nil:
		p.faults = append(p.faults, syntaxError{len(p.data), err.Error()})
	}
}

func (p *indexer) duplicate(path string, offset int, first *position) {
	line, _ := lineColumn(p.data, first.key)
	p.faults = append(p.faults, syntaxError{offset, fmt.Sprintf("duplicate key %s (first on line %d)", path, line)})
}

// header returns the path of the table that a [header] or [[header]] opens.
func (p *indexer) header(e *unstable.Node) string {
	path := ""
	for keys := e.Key(); keys.Next(); {
		name, offset := string(keys.Node().Data), int(keys.Node().Raw.Offset)
		switch {
		case !keys.IsLast():
			path = p.table(path, name, offset)
		case e.Kind == unstable.ArrayTable:
			path = p.nextTable(join(path, name), offset)
		default:
			path = p.table(path, name, offset)
			opened := p.positions[path]
			if opened.opened {
				p.duplicate(path, offset, opened)
			}
			opened.opened = true
		}
	}
	return path
}

// nextTable adds a table to a list of tables.
func (p *indexer) nextTable(path string, offset int) string {
	list := p.positions[path]
	switch {
	case list == nil:
		list = &position{key: offset, value: offset}
		p.positions[path] = list
	case list.tables == 0:
		p.duplicate(path, offset, list)
	}
	table := element(path, list.tables)
	list.tables++
	p.positions[table] = &position{key: offset, value: offset, table: true}
	return table
}

// table returns the path of a table in a table; of a list of tables it is the last
// one.
func (p *indexer) table(in, name string, offset int) string {
	path := join(in, name)
	switch known := p.positions[path]; {
	case known == nil:
		p.positions[path] = &position{key: offset, value: offset, table: true}
	case known.tables > 0:
		return element(path, known.tables-1)
	case !known.table:
		p.duplicate(path, offset, known)
	}
	return path
}

// assign notes `key = value` in a table. A dotted key makes the tables between.
func (p *indexer) assign(table string, e *unstable.Node) {
	for keys := e.Key(); keys.Next(); {
		name, raw := string(keys.Node().Data), keys.Node().Raw
		offset := int(raw.Offset)
		if !keys.IsLast() {
			table = p.table(table, name, offset)
			continue
		}
		path := join(table, name)
		if first := p.positions[path]; first != nil {
			p.duplicate(path, offset, first)
			continue
		}
		value := len(p.data) - len(bytes.TrimLeft(p.data[raw.Offset+raw.Length:], " \t="))
		p.positions[path] = &position{key: offset, value: value}
		p.contents(path, e.Value(), value)
	}
}

// contents notes what a list or an inline table has in it.
func (p *indexer) contents(path string, e *unstable.Node, offset int) {
	children := e.Children()
	switch e.Kind {
	case unstable.InlineTable:
		for children.Next() {
			p.assign(path, children.Node())
		}
	case unstable.Array:
		for i := 0; children.Next(); {
			n := children.Node()
			if n.Kind == unstable.Comment {
				continue
			}
			at := offset // the parser does not say where a list or an inline table begins
			if n.Raw.Length > 0 {
				at = int(n.Raw.Offset)
			} else if n.Kind == unstable.Bool {
				at = int(p.Range(n.Data).Offset)
			}
			p.positions[element(path, i)] = &position{key: at, value: at}
			p.contents(element(path, i), n, at)
			i++
		}
	}
}

// lineColumn turns an offset into line and column, both from 1.
func lineColumn(data []byte, offset int) (line, column int) {
	lead := data[:max(0, min(offset, len(data)))]
	return bytes.Count(lead, []byte("\n")) + 1, len(lead) - bytes.LastIndexByte(lead, '\n')
}

// join is the path of a key in a table, as TOML writes it.
func join(path, key string) string {
	if !isWord(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// element is the path of an element of a list.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// TOML writes the policy as Parse reads it, with every key.
func (p Policy) TOML() (string, error) {
	data, err := toml.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("cannot write the policy: %w", err)
	}
	return string(data), nil
}
