package busapi

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const docsFile = "../docs/dbus-api.md"

// docs/dbus-api.md is written from the XML, so that there is one text to keep.
func TestDocsAreThoseOfTheXML(t *testing.T) {
	doc := renderDocs(parseXML(t))
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		require.NoError(t, os.WriteFile(docsFile, []byte(doc), 0o644))
	}
	want, err := os.ReadFile(docsFile)
	require.NoError(t, err)
	require.Equal(t, string(want), doc, "UPDATE_GOLDEN=1 go test ./busapi -run Docs writes it")
}

func TestEveryMemberIsDocumented(t *testing.T) {
	for _, iface := range parseXML(t) {
		require.NotEmpty(t, iface.doc, iface.name)
		for _, m := range iface.members {
			require.NotEmpty(t, m.doc, "%s.%s", iface.name, m.name)
		}
	}
}

func TestPropertiesAreThoseOfTheXML(t *testing.T) {
	encoded := EncodeProperties(Properties{})
	var documented []string
	for _, m := range parseXML(t)[0].members {
		if m.kind != "property" {
			continue
		}
		documented = append(documented, m.name)
		require.Contains(t, encoded, m.name)
		require.Equal(t, m.signature, encoded[m.name].Signature().String(), m.name)
		require.Equal(t, "read", m.access, m.name)
		require.Equal(
			t, unannounced[m.name], m.emits != "", "%s is announced if and only if the XML does not say otherwise", m.name,
		)
	}
	require.Len(t, documented, len(encoded))
}

// docInterface and docMember are the XML with the documentation of each element.
type docInterface struct {
	name, doc string
	members   []docMember
}

type docMember struct {
	kind, name, doc string
	signature       string // of a property
	access          string
	emits           string // EmitsChangedSignal, empty for the default
	args            []docArg
}

type docArg struct{ name, signature, direction string }

func parseXML(t *testing.T) []docInterface {
	p := docParser{}
	decoder := xml.NewDecoder(strings.NewReader(XML))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return p.interfaces
		}
		require.NoError(t, err)
		if e, starts := token.(xml.StartElement); starts {
			p.element(e)
		}
	}
}

type docParser struct {
	interfaces []docInterface
	doc        *string // of the element that was last
}

func (p *docParser) element(e xml.StartElement) {
	attr := map[string]string{}
	for _, a := range e.Attr {
		attr[a.Name.Local] = a.Value
	}
	switch e.Name.Local {
	case "interface":
		p.interfaces = append(p.interfaces, docInterface{name: attr["name"]})
		p.doc = &p.interfaces[len(p.interfaces)-1].doc
	case "method", "signal", "property":
		last := &p.interfaces[len(p.interfaces)-1]
		last.members = append(last.members, docMember{
			kind: e.Name.Local, name: attr["name"], signature: attr["type"], access: attr["access"],
		})
		p.doc = &p.member().doc
	case "arg":
		m := p.member()
		m.args = append(m.args, docArg{attr["name"], attr["type"], attr["direction"]})
	case "annotation":
		if attr["name"] == "org.gtk.GDBus.DocString" {
			*p.doc = unindented(attr["value"])
		} else {
			p.member().emits = attr["value"]
		}
	}
}

func (p *docParser) member() *docMember {
	iface := &p.interfaces[len(p.interfaces)-1]
	return &iface.members[len(iface.members)-1]
}

// unindented is a text without the indentation that it has in the XML.
func unindented(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}

const docsHead = `# The D-Bus interface

Generated from busapi/org.dubnium.Mode1.xml (UPDATE_GOLDEN=1 go test ./busapi -run Docs); do not edit.

Name ` + "`" + BusName + "` on the system bus, object `" + string(Path) + "`" + `.
`

func renderDocs(interfaces []docInterface) string {
	var b strings.Builder
	b.WriteString(docsHead)
	for _, iface := range interfaces {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", iface.name, iface.doc)
		for _, m := range iface.members {
			fmt.Fprintf(&b, "\n### %s\n\n%s\n", m.heading(), m.doc)
		}
	}
	b.WriteString("\n## Errors\n\nA text says what was wrong and what to do next.\n\n| name | what to do |\n|---|---|\n")
	for _, e := range errorTable {
		fmt.Fprintf(&b, "| %s | %s |\n", e.name, e.next)
	}
	return b.String()
}

func (m docMember) heading() string {
	if m.kind == "property" {
		note := ""
		if m.emits != "" {
			note = ", " + map[string]string{"const": "constant", "false": "changes are not announced"}[m.emits]
		}
		return fmt.Sprintf("%s: property `%s`%s", m.name, m.signature, note)
	}
	var in, out []string
	for _, a := range m.args {
		word := a.signature + " " + a.name
		if a.direction == "out" {
			out = append(out, word)
		} else {
			in = append(in, word)
		}
	}
	heading := fmt.Sprintf("%s: %s `(%s)`", m.name, m.kind, strings.Join(in, ", "))
	if len(out) > 0 {
		heading += fmt.Sprintf(" -> `(%s)`", strings.Join(out, ", "))
	}
	return heading
}
