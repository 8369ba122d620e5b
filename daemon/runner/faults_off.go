//go:build !faultpoints

package runner

import "github.com/dubnium/dubnium/plans"

// Breakable is for tests: with the build tag faultpoints every call of a handler is
// a point at which it can fail, hang or die.
func Breakable(_ string, handlers map[plans.Kind]plans.StepHandler) map[plans.Kind]plans.StepHandler {
	return handlers
}
