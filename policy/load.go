package policy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
)

// Document is a policy with where each of its values comes from.
type Document struct {
	Policy
	// File is the name of the file; empty for no file.
	File string
	// lines are those of the keys that the file has.
	lines map[string]int
}

// Load reads the policy file at path. A file that does not exist is the empty
// policy, so that a fresh install observes honestly before anyone writes one.
// Errors: the file cannot be read, or a BadPolicy.
func Load(path string) (Policy, error) {
	d, err := LoadDocument(path)
	return d.Policy, err
}

// LoadDocument is Load, with where each value comes from.
func LoadDocument(path string) (Document, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Document{Policy: Default()}, nil
	}
	if err != nil {
		return Document{}, fmt.Errorf("cannot read the policy: %w", err)
	}
	return ParseDocument(path, data)
}

// Parse reads a policy from data; name stands for the file in errors.
func Parse(name string, data []byte) (Policy, error) {
	d, err := ParseDocument(name, data)
	return d.Policy, err
}

// ParseDocument is Parse, with where each value comes from. The error is a
// BadPolicy.
func ParseDocument(name string, data []byte) (Document, error) {
	root, broken := parse(data)
	if len(broken) > 0 {
		var findings []Finding
		for _, e := range broken {
			line, column := place(data, e.offset)
			findings = append(findings, Finding{File: name, Line: line, Column: column, Text: e.text})
		}
		return Document{}, bad(findings)
	}
	d := decoder{places: map[string]*node{}}
	doc := Document{Policy: Default(), File: name, lines: map[string]int{}}
	d.into(reflect.ValueOf(&doc.Policy).Elem(), "", root)
	if err := bad(d.findings(name, data, doc.faults())); err != nil {
		return Document{}, err
	}
	for key, n := range d.places {
		doc.lines[key], _ = place(data, n.key)
	}
	return doc, nil
}

// parse tells the two languages apart by what the file begins with: a JSON policy
// is an object, and no TOML document begins with a brace. A name would have to be
// believed.
func parse(data []byte) (*node, []syntaxError) {
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return parseJSON(data)
	}
	return parseTOML(data)
}
