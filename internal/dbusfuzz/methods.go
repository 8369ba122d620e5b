package dbusfuzz

import (
	"encoding/xml"
	"fmt"
)

// Method is a method of a service.
type Method struct {
	Path, Interface, Member string
	// In are the types of its arguments.
	In []string
}

// document is introspection data, as far as it tells what to call.
type document struct {
	Interfaces []struct {
		Name    string `xml:"name,attr"`
		Methods []struct {
			Name string `xml:"name,attr"`
			Args []struct {
				Type      string `xml:"type,attr"`
				Direction string `xml:"direction,attr"`
			} `xml:"arg"`
		} `xml:"method"`
		Properties []struct {
			Name string `xml:"name,attr"`
		} `xml:"property"`
	} `xml:"interface"`
}

// Introspected reads what an object at path says of itself: its methods, and the
// names of everything that it has.
func Introspected(path, data string) (methods []Method, names []string, err error) {
	var d document
	if err := xml.Unmarshal([]byte(data), &d); err != nil {
		return nil, nil, fmt.Errorf("cannot read what %s says of itself: %w", path, err)
	}
	for _, i := range d.Interfaces {
		names = append(names, i.Name)
		for _, p := range i.Properties {
			names = append(names, p.Name)
		}
		for _, m := range i.Methods {
			method := Method{Path: path, Interface: i.Name, Member: m.Name}
			for _, a := range m.Args {
				if a.Direction != "out" {
					method.In = append(method.In, a.Type)
				}
			}
			methods, names = append(methods, method), append(names, m.Name)
		}
	}
	return methods, names, nil
}
