package daemon

// Names that privacy_test.go uses until it follows.
type rig = harness

var startRig = startHarness
