package policy

import (
	"errors"
	"fmt"
	"os"
	"reflect"
)

// Document is a policy with the origin of each of its values.
type Document struct {
	Policy
	// File is the name of the file; empty for no file.
	File string
	// lines are those of the keys that the file has.
	lines map[string]int
}

// Load reads the policy file at path. A file that does not exist is the empty
// policy: a new installation observes and changes nothing. Errors: the file cannot
// be read, or a BadPolicy.
func Load(path string) (Policy, error) {
	d, err := LoadDocument(path)
	return d.Policy, err
}

// LoadDocument is Load, with the origin of each value.
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

// Parse reads a policy from data. name stands for the file in errors.
func Parse(name string, data []byte) (Policy, error) {
	d, err := ParseDocument(name, data)
	return d.Policy, err
}

// ParseDocument is Parse, with the origin of each value. The error is a BadPolicy.
func ParseDocument(name string, data []byte) (Document, error) {
	values, positions, broken := parseTOML(data)
	if len(broken) > 0 {
		var findings []Finding
		for _, e := range broken {
			line, column := lineColumn(data, e.offset)
			findings = append(findings, Finding{File: name, Line: line, Column: column, Text: e.text})
		}
		return Document{}, bad(findings)
	}
	d := decoder{positions: positions}
	doc := Document{Policy: Default(), File: name, lines: map[string]int{}}
	d.into(reflect.ValueOf(&doc.Policy).Elem(), "", values)
	doc.VLLM.addDefaultProfile()
	if err := bad(d.findings(name, data, doc.faults())); err != nil {
		return Document{}, err
	}
	for key, at := range positions {
		doc.lines[key], _ = lineColumn(data, at.key)
	}
	return doc, nil
}
