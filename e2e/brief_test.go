//go:build e2e && !soak

package e2e

// soaking: this run is one of many a day, and has minutes.
const soaking = false
