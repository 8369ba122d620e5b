//go:build !faultpoints

// Package fault is where a test makes this program fail, hang or die on purpose.
// Each place is a point with a name; without the build tag faultpoints there is
// none, and what is here is inlined to nothing.
package fault

import "context"

// At is a point: what of where. where is a path, of which the last element counts,
// or a word.
func At(context.Context, string, string) error { return nil }
