//go:build race

package daemon

// sample: a sweep over every point at which something may happen tries one in so
// many of them. Under the race detector it takes five times as long, and what runs
// beside what is the same in each; `make check` tries all of them without.
const sample = 5
