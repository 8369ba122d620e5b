package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/inference"
	"github.com/dubnium/dubnium/policy"
)

// asProbe makes the test's own binary the probe.
const asProbe = "DUBNIUM_TEST_AS_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(asProbe) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// workstation is a simulated host whose probes are this command behind sockets.
func workstation(t *testing.T, opts testhost.Options) (*testhost.Host, policy.Policy) {
	t.Helper()
	t.Setenv(asProbe, "1")
	self, err := os.Executable()
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "policy.toml")
	opts.ProbeCommand = []string{self}
	opts.ProbeArgs = map[string][]string{"inference": {"--policy", file}}
	h := hosttest.Start(t, opts)
	text := "[vllm]\nhealth_url = \"" + h.VLLMURL() + "/health\"\nmetrics_url = \"" + h.VLLMURL() + "/metrics\"\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	p, err := policy.Load(file)
	require.NoError(t, err)
	p.Paths.Probes = h.ProbeDir()
	return h, p
}

func look(t *testing.T, source interface {
	Look(ctx context.Context) observer.Part
},
) observer.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var s observer.Snapshot
	source.Look(ctx).Into(&s)
	return s
}

func TestThroughItsSocketTheProbeTellsWhoHoldsTheDisplay(t *testing.T) {
	h, p := workstation(t, testhost.Options{})
	seen := look(t, holders.New(p)).Holders
	require.True(t, seen.Known(), seen.Reason)
	require.Equal(t, []observer.GPU{{PCI: "0000:01:00.0", Display: true, Driver: "nvidia", Audio: "0000:01:00.1"}}, seen.GPUs)
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
	require.False(t, look(t, inference.New(p)).Inference.Healthy)
	require.NoError(t, h.StartUnit("vllm.service", "replace"))
	require.NoError(t, h.WaitUnit(t.Context(), "vllm.service", "active"))
	seen := look(t, inference.New(p)).Inference
	require.True(t, seen.Known() && seen.Healthy, "%+v", seen)
	n, known := seen.Requests()
	require.True(t, known)
	require.Zero(t, n)
}

func TestASickProbeIsUnknown(t *testing.T) {
	h, p := workstation(t, testhost.Options{})
	for fault, want := range map[testhost.ProbeFault]string{
		testhost.ProbeRefuses: "nothing listens", testhost.ProbeGarbage: "not a document", testhost.ProbeEOF: "not a document",
	} {
		require.NoError(t, h.SetProbeFault("holders", fault))
		seen := look(t, holders.New(p)).Holders
		require.False(t, seen.Known())
		require.Contains(t, seen.Reason, want)
	}
}
