// Package sim is the state machine of a simulated workstation: units, jobs,
// sessions, a display manager and processes, as systemd and logind keep them.
//
// It is pure: no goroutine, no lock, no clock of its own, no bus. Whoever owns
// a Model calls it from one goroutine at a time, or under one lock, and turns
// its events into signals and files. Time is virtual: work that takes a while
// is queued, and RunUntil does what is due. Nothing is ever finished inside
// the call that asked for it, because the real ones answer first and act later.
//
// Failure semantics: a request is refused with the error name and text that
// the real service uses, and then changed nothing. Misuse by a test (a unit
// that does not exist given to a fault setter) is an error, never a panic.
package sim
