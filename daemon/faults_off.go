//go:build !faultpoints

package daemon

import "github.com/dubnium/dubnium/plans"

// breakable is for tests: with the build tag faultpoints every call of an actor is
// a point at which it can fail, hang or die.
func breakable(_ string, actors map[plans.Kind]StepHandler) map[plans.Kind]StepHandler { return actors }
