package probeclient_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/probeclient"
)

// serve answers each connection with handle until the test ends.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return path
}

func TestTheWholeDocumentIsReadUntilTheProbeCloses(t *testing.T) {
	path := serve(t, func(c net.Conn) {
		c.Write([]byte(`{"a":`))
		c.Write([]byte(`1}`))
	})
	data, err := probeclient.New(path).Fetch(t.Context())
	require.NoError(t, err)
	require.JSONEq(t, `{"a":1}`, string(data))
}

func TestWhatIsWrongIsSaidInWords(t *testing.T) {
	stale := filepath.Join(t.TempDir(), "stale")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	require.NoError(t, err)
	listener.SetUnlinkOnClose(false)
	listener.Close()

	cases := map[string]struct {
		socket string
		want   string
	}{
		"no socket":       {filepath.Join(t.TempDir(), "none"), "is missing: there is no socket"},
		"nobody listens":  {stale, "is missing: nothing listens on"},
		"nothing is said": {serve(t, func(net.Conn) {}), "closed the connection without an answer"},
		"it never stops": {serve(t, func(c net.Conn) {
			chunk := bytes.Repeat([]byte("x"), 1<<16)
			for {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		}), "sent more than 8388608 bytes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := probeclient.New(c.socket).Fetch(ctx)
			require.ErrorContains(t, err, c.want)
		})
	}
	t.Run("it never answers", func(t *testing.T) {
		silent := serve(t, func(c net.Conn) { c.Read(make([]byte, 1)) })
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := probeclient.New(silent).Fetch(ctx)
		require.ErrorContains(t, err, "did not answer in time")
	})
}

func TestAProbeThatHangsGetsNoCompany(t *testing.T) {
	var connections atomic.Int32
	accepted := make(chan struct{}, 8)
	path := serve(t, func(c net.Conn) {
		connections.Add(1)
		accepted <- struct{}{}
		c.Read(make([]byte, 1))
	})
	client := probeclient.New(path)
	first, cancelFirst := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := client.Fetch(first)
		done <- err
	}()
	<-accepted
	second, cancelSecond := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancelSecond()
	_, err := client.Fetch(second)
	require.ErrorContains(t, err, "still busy")
	cancelFirst()
	require.ErrorContains(t, <-done, "did not answer in time")
	require.EqualValues(t, 1, connections.Load())
}
