//go:build !faultpoints

// Package fault has the points at which a test makes the program fail, hang or die. Each
// point has a name. Without the build tag faultpoints there are none, and At is inlined to
// nothing.
package fault

import "context"

// At is a fault point. Its name is WHERE.WHAT, with the last element of the path where.
func At(context.Context, string, string) error { return nil }
