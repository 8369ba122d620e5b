package testhost

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

const (
	propertiesInterface = "org.freedesktop.DBus.Properties"
	introspectable      = "org.freedesktop.DBus.Introspectable"
)

// standard are the interfaces of every object.
func standard() map[string]methods {
	return map[string]methods{
		propertiesInterface: {
			"Get":    {in: "ss", out: "v", call: getProperty},
			"GetAll": {in: "s", out: "a{sv}", call: getProperties},
			"Set":    {in: "ssv", call: setProperty},
		},
		introspectable: {"Introspect": {out: "s", call: introspect}},
	}
}

func unknownProperty(iface, name string) error {
	return &sim.Error{
		Name: "org.freedesktop.DBus.Error.UnknownProperty",
		Text: fmt.Sprintf("Unknown interface %s or property %s.", iface, name),
	}
}

func getProperty(c *call) ([]any, error) {
	v, ok := c.object.props[c.str(0)][c.str(1)]
	if !ok {
		return nil, unknownProperty(c.str(0), c.str(1))
	}
	return []any{dbus.MakeVariant(v)}, nil
}

func getProperties(c *call) ([]any, error) {
	if c.str(0) != "" {
		props, ok := c.object.props[c.str(0)]
		if !ok {
			return nil, unknownProperty(c.str(0), "")
		}
		return []any{variants(props)}, nil
	}
	all := map[string]any{} // sd-bus: no interface means all of them
	for _, props := range c.object.props {
		maps.Copy(all, props)
	}
	return []any{variants(all)}, nil
}

func setProperty(c *call) ([]any, error) {
	iface, name := c.str(0), c.str(1)
	if _, ok := c.object.props[iface][name]; !ok {
		return nil, unknownProperty(iface, name)
	}
	if c.object.writing == nil {
		return nil, &sim.Error{
			Name: sim.ErrPropertyReadOnly, Text: fmt.Sprintf("Property '%s' is not writable.", name),
		}
	}
	return nil, c.object.writing(iface, name, c.msg.Body[2].(dbus.Variant))
}

// introspect describes what is there now; busctl reads it.
func introspect(c *call) ([]any, error) {
	var b strings.Builder
	b.WriteString("<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n" +
		"\"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n")
	interfaces := standard()
	maps.Copy(interfaces, c.object.methods)
	for iface := range c.object.props {
		if _, ok := interfaces[iface]; !ok {
			interfaces[iface] = nil
		}
	}
	for _, iface := range slices.Sorted(maps.Keys(interfaces)) {
		fmt.Fprintf(&b, " <interface name=%q>\n", iface)
		for _, name := range slices.Sorted(maps.Keys(interfaces[iface])) {
			m := interfaces[iface][name]
			fmt.Fprintf(&b, "  <method name=%q>%s%s</method>\n", name, describe("in", m.in), describe("out", m.out))
		}
		for _, name := range slices.Sorted(maps.Keys(c.object.props[iface])) {
			signature := strings.Trim(dbus.SignatureOf(c.object.props[iface][name]).String(), `"`)
			fmt.Fprintf(&b, "  <property name=%q type=%q access=\"read\"/>\n", name, signature)
		}
		b.WriteString(" </interface>\n")
	}
	for _, child := range c.svc.below(c.path) {
		b.WriteString(" <node name=\"")
		_ = xml.EscapeText(&b, []byte(child)) // a Builder takes everything
		b.WriteString("\"/>\n")
	}
	b.WriteString("</node>\n")
	return []any{b.String()}, nil
}

// below lists the children of a node; above the service's own root there is only
// the way to it, which `busctl tree` walks down from /.
func (s *service) below(at dbus.ObjectPath) []string {
	if rest, ok := strings.CutPrefix(s.root, strings.TrimSuffix(string(at), "/")+"/"); ok {
		next, _, _ := strings.Cut(rest, "/")
		return []string{next}
	}
	return s.children(at)
}

// describe lists the arguments of a signature, one complete type each.
func describe(direction, signature string) string {
	var b strings.Builder
	for signature != "" {
		n := completeType(signature)
		fmt.Fprintf(&b, "<arg type=%q direction=%q/>", signature[:n], direction)
		signature = signature[n:]
	}
	return b.String()
}

// completeType is the length of the first complete type of a signature.
func completeType(s string) int {
	switch s[0] {
	case 'a':
		return 1 + completeType(s[1:])
	case '(', '{':
		depth := 0
		for i := range len(s) {
			switch s[i] {
			case '(', '{':
				depth++
			case ')', '}':
				depth--
			}
			if depth == 0 {
				return i + 1
			}
		}
	}
	return 1
}
