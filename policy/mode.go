// Package policy has the settings of a host: the modes and their contracts, thresholds
// and unit names, and the names and exit codes of the guards. It consists of data and
// pure functions, and reads one strict TOML file.
//
// A policy that cannot be read or contradicts itself is an error with all faults at
// once. There is no partial policy: the caller keeps the previous one, or does not
// start.
package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Mode is an operational contract that can be requested of a workstation. A mode is
// intent; an observer.State is what was observed.
type Mode string

// The modes. Each is the word that operators, scripts and the files under
// /run/mode-controller use.
const (
	Desktop     Mode = "desktop"
	StudioLocal Mode = "studio-local"
	Compute     Mode = "compute"
)

// Modes lists every mode, in the order in which they are shown.
func Modes() []Mode { return []Mode{Desktop, StudioLocal, Compute} }

// ParseMode returns the mode with this name. The error lists the modes.
func ParseMode(word string) (Mode, error) {
	if m := Mode(word); slices.Contains(Modes(), m) {
		return m, nil
	}
	return "", fmt.Errorf("unknown mode %q: the modes are %s", word, words(Modes()))
}

// UnmarshalText is ParseMode for a file.
func (m *Mode) UnmarshalText(text []byte) error {
	parsed, err := ParseMode(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// AllowedTransitions says which transitions the daemon may carry out. A new host starts
// with none, then allows the overlay, then the transitions that end sessions.
type AllowedTransitions string

// The sets of allowed transitions, each with those before it.
const (
	TrustObserve AllowedTransitions = "observe" // never change the host
	TrustOverlay AllowedTransitions = "overlay" // desktop and studio-local only
	TrustAll     AllowedTransitions = "all"     // every mode
)

// UnmarshalText rejects any other word.
func (t *AllowedTransitions) UnmarshalText(text []byte) error {
	return oneOf(t, "set of transitions", text, TrustObserve, TrustOverlay, TrustAll)
}

// Allows reports whether a transition to mode may be carried out. leavesCompute says
// that the host is in compute now: leaving it stops vLLM and releases the GPUs, which is
// more than the overlay.
func (t AllowedTransitions) Allows(mode Mode, leavesCompute bool) bool {
	switch t {
	case TrustAll:
		return true
	case TrustOverlay:
		return mode != Compute && !leavesCompute
	default:
		return false
	}
}

// oneOf sets *to to the word that text is.
func oneOf[T ~string](to *T, what string, text []byte, known ...T) error {
	got := T(text)
	if !slices.Contains(known, got) {
		return fmt.Errorf("unknown %s %q: expected one of %s", what, text, words(known))
	}
	*to = got
	return nil
}

func words[T ~string](list []T) string {
	quoted := make([]string, len(list))
	for i, w := range list {
		quoted[i] = string(w)
	}
	return strings.Join(quoted, ", ")
}
