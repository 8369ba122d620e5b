// Package hosttest starts a simulated workstation for a test and ends it with
// the test.
package hosttest

import (
	"context"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/testhost"
)

// Start starts a host. What went wrong inside of it fails the test at its end.
func Start(tb testing.TB, opts testhost.Options) *testhost.Host {
	tb.Helper()
	h, err := testhost.Start(context.WithoutCancel(tb.Context()), opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Errorf("the simulated host: %v", err)
		}
	})
	if err := testhost.RefuseRealBus(h.Address()); err != nil {
		tb.Fatal(err)
	}
	return h
}

// Serve gives a connection that hands method calls to calls, as the daemon's does.
func Serve(tb testing.TB, h *testhost.Host, calls func(busconn.Call)) *dbus.Conn {
	tb.Helper()
	conn, err := busconn.Open(busconn.Options{Address: h.Address(), Calls: calls})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Connect gives a client's connection to the host's bus.
func Connect(tb testing.TB, h *testhost.Host) *dbus.Conn {
	tb.Helper()
	conn, err := dbus.Connect(h.Address())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}
