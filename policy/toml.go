package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// parseTOML reads a TOML document. The library's parser goes through it, because
// its decoder tells where something stands only when it is at fault, and stops
// there; whether the whole is a document, the decoder has the last word on
// (docs/decisions/0009-one-policy-two-languages.md).
func parseTOML(data []byte) (*node, []syntaxError) {
	p := tomlParser{data: data, root: &node{value: newTable()}, opened: map[*node]bool{}}
	p.Reset(data)
	current := p.root
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			current = p.header(e)
		case unstable.KeyValue:
			p.assign(current, e)
		}
	}
	var broken *unstable.ParserError
	var whole map[string]any
	switch err := p.Error(); {
	case errors.As(err, &broken):
		p.faults = append(p.faults, syntaxError{int(p.Range(broken.Highlight).Offset), broken.Message})
	case err != nil:
		p.faults = append(p.faults, syntaxError{len(data), err.Error()})
	case len(p.faults) == 0:
		if err := toml.Unmarshal(data, &whole); err != nil {
			p.faults = append(p.faults, notTOML(data, err))
		}
	}
	return p.root, p.faults
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

type tomlParser struct {
	unstable.Parser
	data   []byte
	root   *node
	opened map[*node]bool // by a header of their own
	faults []syntaxError
}

func (p *tomlParser) twice(name string, at int) {
	p.faults = append(p.faults, syntaxError{at, join("", name) + " stands there twice"})
}

// header finds or makes the table that a [header] or [[header]] opens.
func (p *tomlParser) header(e *unstable.Node) *node {
	current := p.root
	for keys := e.Key(); keys.Next(); {
		name, at := string(keys.Node().Data), int(keys.Node().Raw.Offset)
		if keys.IsLast() && e.Kind == unstable.ArrayTable {
			return p.another(current, name, at)
		}
		current = p.child(current, name, at)
		if keys.IsLast() {
			if p.opened[current] {
				p.twice(name, at)
			}
			p.opened[current] = true
		}
	}
	return current
}

// another is a new table at the end of a list of tables.
func (p *tomlParser) another(in *node, name string, at int) *node {
	t, made := in.value.(*table), &node{key: at, at: at, value: newTable()}
	if t.add(name, &node{key: at, at: at, value: list{made}}) {
		return made
	}
	l, ok := t.nodes[name].value.(list)
	if !ok {
		p.twice(name, at)
		return made
	}
	t.nodes[name].value = append(l, made)
	return made
}

// child is a table in a table, made where there is none yet; of a list of tables
// it is the last one.
func (p *tomlParser) child(in *node, name string, at int) *node {
	t, made := in.value.(*table), &node{key: at, at: at, value: newTable()}
	if t.add(name, made) {
		return made
	}
	n := t.nodes[name]
	if l, ok := n.value.(list); ok && len(l) > 0 {
		n = l[len(l)-1]
	}
	if _, ok := n.value.(*table); !ok {
		p.twice(name, at)
		return made
	}
	return n
}

// assign puts `key = value` into a table. A dotted key makes the tables between.
func (p *tomlParser) assign(into *node, e *unstable.Node) {
	for keys := e.Key(); keys.Next(); {
		name, raw := string(keys.Node().Data), keys.Node().Raw
		if !keys.IsLast() {
			into = p.child(into, name, int(raw.Offset))
			continue
		}
		rest := string(p.data[raw.Offset+raw.Length:])
		at := len(p.data) - len(strings.TrimLeft(rest, " \t="))
		if !into.value.(*table).add(name, &node{key: int(raw.Offset), at: at, value: p.value(e.Value(), at)}) {
			p.twice(name, int(raw.Offset))
		}
	}
}

// value is what stands at an offset. What the library takes for a number is one;
// whether it is too large, its decoder says.
func (p *tomlParser) value(e *unstable.Node, at int) any {
	text := string(e.Data)
	switch e.Kind {
	case unstable.String:
		return text
	case unstable.Bool:
		return text == "true"
	case unstable.Integer:
		n, _ := strconv.ParseInt(text, 0, 64) // underscores and bases are Go's too
		return n
	case unstable.Float:
		f, _ := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		return f
	case unstable.Array:
		return p.list(e, at)
	case unstable.InlineTable:
		n := &node{value: newTable()}
		for pairs := e.Children(); pairs.Next(); {
			p.assign(n, pairs.Node())
		}
		return n.value
	}
	return moment(text)
}

func (p *tomlParser) list(e *unstable.Node, at int) list {
	l := list{}
	for elements := e.Children(); elements.Next(); {
		n := elements.Node()
		if n.Kind == unstable.Comment {
			continue
		}
		where := at // the parser does not tell where a list or a word begins
		if n.Raw.Length > 0 {
			where = int(n.Raw.Offset)
		} else if n.Kind == unstable.Bool {
			where = int(p.Range(n.Data).Offset)
		}
		l = append(l, &node{key: where, at: where, value: p.value(n, where)})
	}
	return l
}

// TOML writes the policy as Parse reads it, every key included.
func (p Policy) TOML() (string, error) {
	data, err := toml.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("cannot write the policy: %w", err)
	}
	return string(data), nil
}
