package render

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/policy"
)

// Findings is what is wrong with a policy, a line each.
func Findings(findings []policy.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(clean(f.String()) + "\n")
	}
	return b.String()
}

// FindingsJSON is `modectl policy check --json`.
func FindingsJSON(findings []policy.Finding) string { return marshal(some(findings)) }

// Policy is a policy file that says what is in force, with the origin of each
// value behind it.
func Policy(p busapi.Policy) string {
	var b strings.Builder
	for _, s := range p.Settings {
		b.WriteString(clean(s.Line()) + " # " + clean(s.Origin) + "\n")
	}
	return b.String()
}

// settingJSON has the value as itself, not as text.
type settingJSON struct {
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`
	Origin  string          `json:"origin"`
	Restart bool            `json:"restart"`
}

func setting(s policy.Setting) settingJSON {
	value := json.RawMessage(s.Value)
	if !json.Valid(value) {
		value = json.RawMessage("null")
	}
	return settingJSON{s.Key, value, s.Origin, s.Restart}
}

// PolicyJSON is `modectl policy show --json`.
func PolicyJSON(p busapi.Policy) string {
	settings := make([]settingJSON, len(p.Settings))
	for i, s := range p.Settings {
		settings[i] = setting(s)
	}
	return marshal(struct {
		File     string        `json:"file"`
		Settings []settingJSON `json:"settings"`
	}{p.File, settings})
}

// Diff is what a policy would change, the old line before the new one.
func Diff(changes []policy.Change) string {
	var b strings.Builder
	for _, c := range changes {
		note := ""
		if c.New.Restart {
			note = ", only when dubniumd is restarted"
		}
		fmt.Fprintf(&b, "- %s # %s\n+ %s # %s%s\n", clean(c.Old.Line()), clean(c.Old.Origin), clean(c.New.Line()), clean(c.New.Origin), note)
	}
	return b.String()
}

// DiffJSON is `modectl policy diff --json`.
func DiffJSON(changes []policy.Change) string {
	type changeJSON struct {
		Key string      `json:"key"`
		Old settingJSON `json:"old"`
		New settingJSON `json:"new"`
	}
	list := make([]changeJSON, len(changes))
	for i, c := range changes {
		list[i] = changeJSON{c.Key, setting(c.Old), setting(c.New)}
	}
	return marshal(list)
}
