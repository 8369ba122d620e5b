package policy

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// madeOf reports whether text has one or more of these characters, and no other.
func madeOf(text, characters string) bool { return text != "" && strings.Trim(text, characters) == "" }

// unitOf splits a name where systemd does.
func unitOf(characters string, types ...string) func(string) bool {
	return func(text string) bool {
		dot := strings.LastIndex(text, ".")
		return dot > 0 && madeOf(text[:dot], characters) && slices.Contains(types, text[dot+1:])
	}
}

// Each name is told from what is nearly one, by a rule that takes it apart instead of
// matching it.
func TestNamesAreToldFromWhatIsNearlyOne(t *testing.T) {
	const ofUnits = letters + digits + `:_.\@-`
	inModes := []string{"service", "target", "slice", "socket", "timer"}
	for name, c := range map[string]struct {
		is      func(string) bool
		rule    func(string) bool
		drawnAs string
	}{
		"word": {isWord, func(s string) bool { return madeOf(s, letters+digits+"-_") }, `[a-zA-Z0-9_-]+`},
		"line": {
			isLine,
			func(s string) bool {
				return len(s) <= 200 && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
			},
			`[ -~]{198,201}|[ -~]?`,
		},
		"amount": {
			isAmount,
			func(s string) bool {
				return s == "" || s == Infinity || len(s) <= 8 && madeOf(s[:len(s)-1], digits) && madeOf(s[len(s)-1:], "MGT")
			},
			`[0-9]{0,8}[MGTK]|infinity`,
		},
		"unit":   {isUnit, unitOf(ofUnits, inModes...), `[a-z@.\\]*\.(service|target|slice|socket|timer|scope)`},
		"slice":  {isSlice, unitOf(ofUnits, "slice"), `[a-z@.\\]*\.(service|slice)`},
		"worker": {isWorker, unitOf(ofUnits, "service", "scope"), `[a-z@.\\]*\.(service|slice|scope)`},
		"quiescible": {
			isQuiescible,
			unitOf(ofUnits, "service", "timer", "path", "socket"),
			`[a-z@]*\.(service|timer|path|socket|mount)`,
		},
		"unit of any type": {
			isAnyUnit,
			unitOf(ofUnits, append(inModes, "scope", "mount", "automount", "swap", "path", "device")...),
			`[a-z@.\\]*\.(service|target|slice|socket|timer|scope|mount|automount|swap|path|device|snapshot)`,
		},
		"template": {
			isTemplate,
			func(s string) bool {
				dot := strings.LastIndex(s, ".")
				return dot > 0 && s[dot-1] == '@' && madeOf(s[dot+1:], letters[:26])
			},
			`[a-z@.]{0,4}@\.[a-z]+`,
		},
		"PCI address": {
			IsPCI,
			func(s string) bool {
				return len(s) == len("0000:00:00.0") && s[4] == ':' && s[7] == ':' && s[10] == '.' &&
					madeOf(s[:4]+s[5:7]+s[8:10], digits+"abcdef") && madeOf(s[11:], digits[:8])
			},
			`[0-9a-f]{4,5}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-8]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				text := nearly(t, c.drawnAs)
				if c.is(text) != c.rule(text) {
					t.Fatalf("%q is one: %t", text, c.is(text))
				}
			})
		})
	}
}

// nearly draws a text of a pattern, or one that is known to be hard, and puts
// something into it that may make it wrong.
func nearly(t *rapid.T, pattern string) string {
	text := rapid.OneOf(
		rapid.StringMatching(pattern),
		rapid.SampledFrom([]string{
			"", ".", "@.service", ".service", "a@.service", "a.service", "a@b.slice", "a.socket", "a@b@.service",
			"0000:01:00.0", "00000000:01:00.7", "9999999T", "M",
		}),
	).Draw(t, "text")
	at := rapid.IntRange(0, len(text)).Draw(t, "at")
	end := rapid.IntRange(at, min(len(text), at+1)).Draw(t, "end")
	instead := rapid.SampledFrom([]string{
		"", "", "a", "F", "8", "g", ":", ".", "@", " ", "\n", "é", "\x7f", "\xff", "~",
	}).Draw(t, "instead")
	return text[:at] + instead + text[end:]
}
