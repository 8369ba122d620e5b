package inference_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/inference"
	"github.com/dubnium/dubnium/policy"
)

// probeSays looks at a probe that writes text to everybody who asks.
func probeSays(t *testing.T, text string) observer.Inference {
	t.Helper()
	p := policy.Default()
	p.Paths.Probes = t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(p.Paths.Probes, inference.Socket))
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte(text))
			conn.Close()
		}
	}()
	var snapshot observer.Snapshot
	inference.New(p).Read(t.Context()).Into(&snapshot)
	require.True(t, snapshot.Inference.WasRead())
	return snapshot.Inference
}

func TestRead(t *testing.T) {
	got := probeSays(t, `{"healthy":true,"running":2,"waiting":1}`)
	require.True(t, got.Known(), got.Reason)
	require.True(t, got.Healthy)
	n, known := got.Requests()
	require.True(t, known)
	require.InDelta(t, 3, n, 0)
}

func TestMissingMetric(t *testing.T) {
	for _, says := range []string{
		`{"healthy":true,"running":null,"waiting":1}`, `{"healthy":true,"waiting":1}`,
		`{"healthy":true,"running":-1,"waiting":1}`,
	} {
		got := probeSays(t, says)
		require.True(t, got.Known(), got.Reason)
		_, known := got.Requests()
		require.False(t, known, says)
	}
}

func TestHealthText(t *testing.T) {
	got := probeSays(t, `{"healthy":false,"health_text":"/health answered 503\u001b[0m","running":null,"waiting":null}`)
	require.True(t, got.Known())
	require.False(t, got.Healthy)
	require.Equal(t, "/health answered 503?[0m", got.HealthText)
}

func TestInvalidAnswers(t *testing.T) {
	cases := map[string]struct{ says, want string }{
		"nothing":       {"", "closed the connection without an answer"},
		"not JSON":      {"panic", "not a document"},
		"no health":     {`{"running":1}`, "lacks the health"},
		"two documents": {`{"healthy":true}{"healthy":false}`, "has data after the document"},
		"an error":      {`{"error":"cannot use the policy"}`, "the inference probe reports: cannot use the policy"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := probeSays(t, c.says)
			require.False(t, got.Known())
			require.False(t, got.Healthy)
			require.Contains(t, got.Reason, c.want)
		})
	}
}

func TestNextPoll(t *testing.T) {
	p := policy.Default()
	s := inference.New(p)
	start := time.Unix(100, 0)
	now := func(active string, healthy bool, asked time.Time) observer.Snapshot {
		var snapshot observer.Snapshot
		snapshot.Systemd.Units = map[string]observer.Unit{"vllm.service": {ActiveState: active, ActiveSince: start}}
		snapshot.Inference = observer.Inference{Reading: observer.Reading{At: asked}, Healthy: healthy}
		return snapshot
	}
	asked := start.Add(time.Second)
	require.Zero(t, s.NextPoll(now("inactive", true, asked)))
	require.Equal(t, start, s.NextPoll(now("active", true, start.Add(-time.Hour))), "at once when it was started since")
	require.Equal(t, asked.Add(2*time.Second), s.NextPoll(now("active", false, asked)), "soon while it loads")
	require.Equal(t, asked.Add(p.Timeouts.Recheck.D()), s.NextPoll(now("active", true, asked)))
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, inference.New(policy.Default()).Watch(ctx, func() { t.Error("nothing changed") }))
}

// FuzzDecode: no answer of a probe crashes the daemon or becomes a count that
// cannot be one.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"healthy":true,"running":2,"waiting":1}`))
	f.Add([]byte(`{"healthy":false,"health_text":"\u0000","running":1e308}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := inference.Decode(data)
		if err == nil && d.Running != nil {
			require.GreaterOrEqual(t, *d.Running, 0.0)
		}
	})
}
