//go:build !race

package daemon

// sample: a sweep over every point at which something may happen tries them all.
const sample = 1
