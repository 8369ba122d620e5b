package policy

import (
	"bytes"
	"fmt"
	"strconv"
)

// node is one value of a file, whatever language it is written in, with the
// offsets at which it and its key stand. The parsers below make trees of nodes;
// decode alone knows what a policy is, so that TOML and JSON cannot differ.
type node struct {
	key   int // where its key stands; where it stands itself in a list
	at    int // where it stands itself
	value any // string, bool, int64, float64, moment, nothing, list or *table
}

type (
	list    []*node
	moment  string   // a date or a time, of which a policy has none
	nothing struct{} // JSON's null
)

// table keeps the order of the file.
type table struct {
	names []string
	nodes map[string]*node
}

func newTable() *table { return &table{nodes: map[string]*node{}} }

// add reports false when the name is there already.
func (t *table) add(name string, n *node) bool {
	if _, there := t.nodes[name]; there {
		return false
	}
	t.names = append(t.names, name)
	t.nodes[name] = n
	return true
}

// String names the value for people: what it is, and which.
func (n *node) String() string {
	const most = 40
	switch v := n.value.(type) {
	case string:
		if len(v) > most {
			return "text"
		}
		return "the text " + strconv.Quote(v)
	case bool:
		return fmt.Sprint(v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case moment:
		return "a date or time"
	case nothing:
		return "null"
	case list:
		return "a list"
	}
	return "a table"
}

// syntaxError is a place from which on the file cannot be read.
type syntaxError struct {
	offset int
	text   string
}

func (e syntaxError) Error() string { return e.text }

// place turns an offset into line and column, both from 1.
func place(data []byte, offset int) (line, column int) {
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
