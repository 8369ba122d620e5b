package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/inference"
	"github.com/dubnium/dubnium/observer/logind"
	"github.com/dubnium/dubnium/policy"
)

// built is the probe as it is installed: without the race detector, which needs
// more memory than the probe allows itself.
var built = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(scratch, "dubnium-probe")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the probe: %w\n%s", err, out)
	}
	return path, nil
})

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "dubnium-probe"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

func program(t *testing.T) string {
	t.Helper()
	path, err := built()
	require.NoError(t, err)
	return path
}

// workstation is a simulated host whose probes are this command behind sockets.
func workstation(t *testing.T, opts testhost.Options) (*testhost.Host, policy.Policy) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.toml")
	opts.ProbeCommand = []string{program(t)}
	opts.ProbeArgs = map[string][]string{"inference": {"--policy", file}}
	h := hosttest.Start(t, opts)
	text := "[vllm]\nhealth_url = \"" + h.VLLMURL() + "/health\"\nmetrics_url = \"" + h.VLLMURL() + "/metrics\"\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	p, err := policy.Load(file)
	require.NoError(t, err)
	p.Paths.Probes = h.ProbeDir()
	return h, p
}

func readOnce(t *testing.T, source interface {
	Read(ctx context.Context) observer.Part
},
) observer.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var s observer.Snapshot
	source.Read(ctx).Into(&s)
	return s
}

func TestThroughItsSocketTheProbeTellsWhoHoldsTheDisplay(t *testing.T) {
	h, p := workstation(t, testhost.Options{})
	seen := readOnce(t, holders.New(p)).Processes
	require.True(t, seen.Known(), seen.Reason)
	require.Equal(
		t, []observer.GPU{{PCI: "0000:01:00.0", Display: true, Driver: "nvidia", Audio: "0000:01:00.1"}}, seen.GPUs,
	)
	alice, _ := h.SessionOf("user")
	found := false
	for _, holder := range observer.ForeignHolders(p, seen) {
		if holder.Command == "sway" {
			found = true
			require.Equal(t, alice.ID, holder.Session)
			require.Equal(t, alice.Scope, holder.Unit)
			require.Equal(t, []string{"card0", "renderD128"}, holder.Nodes)
		}
	}
	require.True(t, found, "%+v", seen.Holders)
}

func TestThroughItsSocketTheProbeTellsHowVLLMIs(t *testing.T) {
	h, p := workstation(t, testhost.Options{})
	require.False(t, readOnce(t, inference.New(p)).Inference.Healthy)
	require.NoError(t, h.StartUnit("vllm.service", "replace"))
	require.NoError(t, h.WaitUnit(t.Context(), "vllm.service", "active"))
	seen := readOnce(t, inference.New(p)).Inference
	require.True(t, seen.Known() && seen.Healthy, "%+v", seen)
	n, known := seen.Requests()
	require.True(t, known)
	require.Zero(t, n)
}

// listener is the audio source at work on a workstation.
type listener struct {
	*audio.Source
	t       *testing.T
	changes chan struct{}
	leave   func() // ends the source
}

func listen(t *testing.T, h *testhost.Host, p policy.Policy) *listener {
	t.Helper()
	bus, err := busconn.Dial(h.Address())
	require.NoError(t, err)
	l := &listener{Source: audio.New(p, systemd1.NewUnits(bus)), t: t, changes: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- l.Watch(ctx, func() {
			select {
			case l.changes <- struct{}{}:
			default:
			}
		})
	}()
	l.leave = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
		bus.Close()
	})
	t.Cleanup(l.leave)
	l.OnSnapshot(readOnce(t, logind.New(bus)))
	return l
}

// until looks after each change, and only then, until it is right.
func (l *listener) until(right func(observer.AudioServer) bool) observer.AudioServer {
	l.t.Helper()
	for timeout := time.After(30 * time.Second); ; {
		select {
		case <-l.changes:
			if s, there := readOnce(l.t, l.Source).Audio.Of(1000); there && right(s) {
				return s
			}
		case <-timeout:
			require.FailNow(l.t, "no change led to the right look", "%+v", readOnce(l.t, l.Source).Audio)
		}
	}
}

func TestThroughItsSocketTheProbeTellsWhatPlays(t *testing.T) {
	h, p := workstation(t, testhost.Options{})
	l := listen(t, h, p)
	l.until(func(s observer.AudioServer) bool { return s.Known() && s.Running && len(s.Streams) == 0 })
	require.NoError(t, h.WaitUnit(t.Context(), audio.SocketUnit(1000), "active"))
	h.Audio().Set(pulsetest.State{Playback: []pulsetest.Stream{{Media: "song"}}})
	l.until(func(s observer.AudioServer) bool { return len(s.Streams) == 1 && s.Streams[0].Media == "song" })
	h.Audio().Close()
	l.until(func(s observer.AudioServer) bool { return s.Known() && !s.Running })
	next, err := pulsetest.Start(
		h.AudioSocket(), pulsetest.State{Capture: []pulsetest.Stream{{Media: "take", Corked: true}}},
	)
	require.NoError(t, err)
	t.Cleanup(next.Close)
	l.until(func(s observer.AudioServer) bool { return len(s.Streams) == 1 && s.Streams[0].Corked })

	l.OnSnapshot(observer.Snapshot{Logind: observer.Logind{Reading: observer.Reading{At: time.Now()}}})
	require.NoError(t, h.WaitUnit(t.Context(), audio.SocketUnit(1000), "inactive"))
	require.NoError(t, h.WaitUnit(t.Context(), audio.ServiceUnit(1000), "inactive"))
}

func TestASickProbeIsUnknown(t *testing.T) {
	h, p := workstation(t, testhost.Options{})
	for fault, want := range map[testhost.ProbeFault]string{
		testhost.ProbeRefuses: "nothing listens", testhost.ProbeGarbage: "not a document",
		testhost.ProbeEOF: "not a document",
	} {
		require.NoError(t, h.SetProbeFault("holders", fault))
		seen := readOnce(t, holders.New(p)).Processes
		require.False(t, seen.Known())
		require.Contains(t, seen.Reason, want)
	}
}
