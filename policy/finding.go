package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Finding is one fault of a policy file with its position.
type Finding struct {
	File string `json:"file"`
	// Line and Column count from 1, the column in bytes. They are 0 for a fault that is
	// not in the text of the file.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Key is the path of the key; empty for a file that is not TOML.
	Key  string `json:"key,omitempty"`
	Text string `json:"text"`
}

// String is the line that people and editors read: file:line:column: key: text.
func (f Finding) String() string {
	line := f.File
	if f.Line > 0 {
		line = fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	}
	if f.Key == "" {
		return line + ": " + f.Text
	}
	if hint, unknown := strings.CutPrefix(f.Text, unknownKey); unknown {
		return line + ": " + unknownKey + " " + f.Key + hint
	}
	return line + ": " + f.Key + ": " + f.Text
}

// BadPolicy is the error of a policy that cannot be used: all its faults, in the order
// of the file.
type BadPolicy []Finding

func (b BadPolicy) Error() string {
	lines := make([]string, len(b))
	for i, f := range b {
		lines[i] = f.String()
	}
	return "cannot use the policy:\n" + strings.Join(lines, "\n")
}

// Findings returns the faults that a BadPolicy in err has; nil for another error, such
// as a file that cannot be read.
func Findings(err error) []Finding {
	var bad BadPolicy
	if errors.As(err, &bad) {
		return bad
	}
	return nil
}

// bad returns the findings as an error, nil for none.
func bad(findings []Finding) error {
	if len(findings) == 0 {
		return nil
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	})
	return BadPolicy(findings)
}
