package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/inference"
)

func probe(t *testing.T, args ...string) (code int, out, complaints string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestHoldersWritesOneDocument(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/1/fd"), 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/1/task"), 0o755))
	code, out, complaints := probe(
		t, "holders", "--proc", filepath.Join(root, "proc"), "--sys", filepath.Join(root, "sys"),
	)
	require.Zero(t, code, complaints)
	d, err := holders.Decode([]byte(out))
	require.NoError(t, err)
	require.Empty(t, d.Holders)
}

func TestAProbeThatCannotLookSaysSoInItsDocument(t *testing.T) {
	code, out, complaints := probe(t, "holders", "--proc", t.TempDir())
	require.Equal(t, 1, code)
	d, err := holders.Decode([]byte(out))
	require.NoError(t, err)
	require.Contains(t, d.Error, "does not show PID 1")
	require.Contains(t, complaints, d.Error)
}

func TestInferenceAsksWherePolicySays(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ready" {
			return
		}
		w.Write([]byte("vllm:num_requests_running 1\nvllm:num_requests_waiting 2\n"))
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "policy.toml")
	text := "[vllm]\nhealth_url = \"" + server.URL + "/ready\"\nmetrics_url = \"" + server.URL + "/numbers\"\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
	code, out, complaints := probe(t, "inference", "--policy", file)
	require.Zero(t, code, complaints)
	d, err := inference.Decode([]byte(out))
	require.NoError(t, err)
	require.True(t, *d.Healthy)
	require.InDelta(t, 1, *d.Running, 0)
	require.InDelta(t, 2, *d.Waiting, 0)
}

func TestAWrongPolicyIsSaidInTheDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.toml")
	require.NoError(t, os.WriteFile(file, []byte("nonsense = 1\n"), 0o644))
	code, out, _ := probe(t, "inference", "--policy", file)
	require.Equal(t, 1, code)
	d, err := inference.Decode([]byte(out))
	require.NoError(t, err)
	require.Contains(t, d.Error, "unknown key nonsense")
}

func TestWhoHoldsAGPUIsToldWhateverThePolicySays(t *testing.T) {
	root, file := hosttest.Start(t, testhost.Options{}).Root(), filepath.Join(t.TempDir(), "policy.toml")
	require.NoError(t, os.WriteFile(file, []byte("nonsense = 1\n"), 0o644))
	code, out, complaints := probe(
		t, "holders", "--proc", filepath.Join(root, "proc"), "--sys", filepath.Join(root, "sys"), "--policy", file,
	)
	require.Zero(t, code, complaints)
	d, err := holders.Decode([]byte(out))
	require.NoError(t, err)
	require.NotEmpty(t, d.GPUs)
	require.False(t, d.Jobs.Complete)
	require.Contains(t, d.Jobs.Reason, "unknown key nonsense")
	require.Nil(t, d.DAWs, "which of them run is unknown, not nobody")
}

func TestDAWsAreThoseOfThePolicy(t *testing.T) {
	root, file := hosttest.Start(t, testhost.Options{}).Root(), filepath.Join(t.TempDir(), "policy.toml")
	args := []string{
		"holders", "--proc", filepath.Join(root, "proc"), "--sys", filepath.Join(root, "sys"), "--policy", file,
	}
	for names, found := range map[string]int{`"k3s-server"`: 1, `"k3s"`: 0, ``: 0} {
		require.NoError(t, os.WriteFile(file, []byte("[audio]\ndaws = ["+names+"]\n"), 0o644))
		code, out, complaints := probe(t, args...)
		require.Zero(t, code, complaints)
		d, err := holders.Decode([]byte(out))
		require.NoError(t, err)
		require.NotNil(t, d.DAWs)
		require.Len(t, d.DAWs, found, names)
	}
}

func TestMisuseWritesNoDocument(t *testing.T) {
	for name, args := range map[string][]string{
		"no probe": {}, "an unknown probe": {"gpu"}, "an unknown flag": {"holders", "--nope"},
		"an argument": {"inference", "now"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, complaints := probe(t, args...)
			require.Equal(t, 30, code)
			require.Empty(t, out)
			require.NotEmpty(t, complaints)
		})
	}
}
