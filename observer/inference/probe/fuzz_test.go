package probe

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer/inference"
)

// answerer is a server that answers each request with any bytes and hangs up.
type answerer struct {
	net.Listener
	answer atomic.Pointer[[]byte]
}

func (a *answerer) serve() {
	for {
		conn, err := a.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			panic(err)
		}
		request := make([]byte, 4096)
		_, _ = conn.Read(request)
		_, _ = conn.Write(*a.answer.Load()) // the probe may have hung up
		_ = conn.Close()
	}
}

// FuzzRead: whatever a server answers, the probe has a document that the daemon takes,
// and only the status 200 is healthy.
func FuzzRead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\nvllm:num_requests_running 2.0\n\n\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx"))
	f.Add([]byte("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b"))
	f.Add([]byte("HTTP/1.1 503 \x1b[2J\r\n\r\n"))
	f.Add([]byte("\x00\xff"))
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(f, err)
	a := &answerer{Listener: listener}
	f.Cleanup(func() { _ = listener.Close() })
	go a.serve()
	address := "http://" + listener.Addr().String()
	f.Fuzz(func(t *testing.T, answer []byte) {
		a.answer.Store(&answer)
		d := Read(t.Context(), address+"/health", address+"/metrics")
		data, err := json.Marshal(d)
		require.NoError(t, err)
		got, err := inference.Decode(data)
		require.NoError(t, err, "%s", data)
		require.NotNil(t, got.Healthy)
		require.Equal(t, got.HealthText == "", *got.Healthy)
		require.True(t, !*got.Healthy || bytes.Contains(answer, []byte(" 200")), "%q", answer)
		for _, r := range got.HealthText {
			require.True(t, unicode.IsPrint(r), "%q", got.HealthText)
		}
		for _, n := range []*float64{got.Running, got.Waiting} {
			require.True(t, n == nil || *n >= 0)
		}
	})
}
