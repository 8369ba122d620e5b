// Package policy holds what a host's owner decides: the modes and their
// contracts, thresholds, unit names, and the identities and exit codes of the
// guards. It is data and pure functions; it reads one strict file and touches
// nothing else.
//
// A policy that cannot be read or does not make sense is an error that names
// every fault at once. There is no partial policy: the caller keeps the one it
// had, or does not start.
package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Mode is one of the operational contracts that a workstation can be asked to
// fulfil. A mode is intent; what a host is, is an observer.State.
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

// ParseMode returns the mode that word names. The error names the modes there
// are.
func ParseMode(word string) (Mode, error) {
	if m := Mode(word); slices.Contains(Modes(), m) {
		return m, nil
	}
	return "", fmt.Errorf("unknown mode %q: the modes are %s", word, words(Modes()))
}

// UnmarshalText makes a Mode in a file as strict as ParseMode.
func (m *Mode) UnmarshalText(text []byte) error {
	parsed, err := ParseMode(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// AllowedTransitions says how far a host's owner lets the daemon go. A new host first proves
// that it is observed honestly, then the overlay, then the transitions that end
// sessions.
type AllowedTransitions string

// The stages of trust, from the most careful to full use.
const (
	TrustObserve AllowedTransitions = "observe" // never change the host
	TrustOverlay AllowedTransitions = "overlay" // desktop and studio-local only
	TrustAll     AllowedTransitions = "all"     // every mode
)

// UnmarshalText refuses a word that is not a stage of trust.
func (t *AllowedTransitions) UnmarshalText(text []byte) error {
	return oneOf(t, "set of transitions", text, TrustObserve, TrustOverlay, TrustAll)
}

// Allows reports whether a transition to mode may be carried out at this stage.
// leavesCompute says that the host is in compute now: the way out of compute
// stops vLLM and moves the GPUs, so it is more than the overlay.
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
