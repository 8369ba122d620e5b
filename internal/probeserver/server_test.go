package probeserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/probeserver"
)

func TestAPassedSocketIsServedUntilNobodyAsks(t *testing.T) {
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "probe"), Net: "unix"}
	listener, err := net.ListenUnix("unix", address)
	require.NoError(t, err)
	defer listener.Close()
	looks := 0
	see := func(context.Context) (any, error) {
		looks++
		if looks == 2 {
			return map[string]string{"error": "cannot see"}, errors.New("cannot see")
		}
		return map[string]int{"look": looks}, nil
	}
	ended := make(chan error, 1)
	probe := probeserver.Probe{Name: "test", Collect: see, Idle: time.Second, ReadBound: time.Minute, Stderr: io.Discard}
	go func() { ended <- probe.Serve(t.Context(), listener) }()
	for _, want := range []string{`{"look":1}`, `{"error":"cannot see"}`, `{"look":3}`} {
		conn, err := net.DialUnix("unix", nil, address)
		require.NoError(t, err)
		got, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.JSONEq(t, want, string(got), "each connection gets one document, after a failing look too")
		require.NoError(t, conn.Close())
	}
	require.NoError(t, <-ended)
}
