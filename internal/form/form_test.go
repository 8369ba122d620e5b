package form_test

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/internal/form"
)

// The languages are these regular expressions', and nothing else is let in.
func TestFormsAreTheirRegularExpressions(t *testing.T) {
	for name, c := range map[string]struct {
		is    func(string) bool
		means string
	}{
		"number":          {form.Number, `^[0-9]+$`},
		"word":            {form.Word, `^[A-Za-z0-9_-]+$`},
		"printable":       {func(s string) bool { return form.Printable(s, 7) }, `^[[:print:]]{0,7}$`},
		"unit":            {func(s string) bool { return form.Unit(s, "service", "slice") }, `^[A-Za-z0-9:_.\\@-]+\.(service|slice)$`},
		"template":        {form.Template, `(?s)^.*@\.[a-z]+$`},
		"PCI":             {func(s string) bool { return form.PCI(s, 4) }, `^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`},
		"PCI, any domain": {func(s string) bool { return form.PCI(s, 8) }, `^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`},
	} {
		t.Run(name, func(t *testing.T) {
			means := regexp.MustCompile(c.means)
			rapid.Check(t, func(t *rapid.T) {
				// One that is right, with something put into it that may make it wrong.
				text := rapid.OneOf(
					rapid.StringMatching(c.means),
					rapid.SampledFrom([]string{"", ".", "@.service", ".service", "a@.service", "a.service", "a@b.slice", "a.socket", "0000:01:00.0", "00000000:01:00.7"}),
				).Draw(t, "text")
				at := rapid.IntRange(0, len(text)).Draw(t, "at")
				cut := rapid.IntRange(at, min(len(text), at+1)).Draw(t, "to")
				text = text[:at] + rapid.SampledFrom([]string{"", "", "a", "F", "8", "g", ":", ".", "@", " ", "\n", "é", "\x7f", "~"}).Draw(t, "what") + text[cut:]
				if c.is(text) != means.MatchString(text) {
					t.Fatalf("%q is one: %t", text, c.is(text))
				}
			})
		})
	}
}
