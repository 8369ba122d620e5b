// Package testhost is a simulated workstation on a private bus: a real
// dbus-daemon, and behind it systemd1, login1 and PolicyKit1 as far as modes
// care, a tree of /proc and /sys for the holders probe, the probes' sockets,
// and a vLLM that answers HTTP. The real dubniumd runs against it unchanged.
// It needs no root and nothing installed but dbus-daemon.
//
// What it promises: the state machine (package sim) is owned by one lock, and
// everything that leaves on the bus, replies included, leaves through one queue
// in the order in which the state changed. So a client may rely here on what it
// may rely on with the real, single-threaded services, and on nothing more:
// JobRemoved never overtakes the reply that names the job, and the last
// PropertiesChanged of a unit precedes its JobRemoved.
//
// Failure semantics: Start gives all or nothing. Close ends every process it
// started, by its pid, and waits for every goroutine. It never touches the
// machine's own bus or state; RefuseRealBus is for those who use it.
package testhost
