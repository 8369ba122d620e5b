//go:build e2e && soak

package e2e

// soaking: take the time it takes.
const soaking = true
