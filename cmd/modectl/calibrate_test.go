package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

const card = "0000:01:00.0"

// gpuAt is a host whose display GPU has so many MiB in use at a look; somebody
// holds it, or nobody. Looks are a second apart.
func gpuAt(look int, mib float64, held bool) status.View {
	at := observer.Reading{At: begin.Add(time.Duration(look) * time.Second)}
	used := mib * (1 << 20)
	s := observer.Snapshot{
		Processes: observer.ProcessScan{Reading: at, GPUs: []observer.GPU{{PCI: card, Display: true, Driver: "nvidia"}}},
		GPU:       observer.NVML{Reading: at, Driver: true, Cards: []observer.Card{{PCI: card, MemoryUsed: observer.Measure{Value: &used}}}},
	}
	if held {
		s.Processes.Holders = []observer.Holder{{GPU: card, PID: 900, UID: 1001, Command: "sway", Unit: "session-2.scope"}}
	}
	return status.View{Snapshot: s, Observation: observer.Classify(policy.Default(), s, observer.Context{}, at.At)}
}

// releases alternates: two looks held, five free, with 80 MiB and one more each
// time.
func releases(look int) status.View {
	round, phase := (look-1)/7, (look-1)%7
	if phase < 2 {
		return gpuAt(look, 900, true)
	}
	return gpuAt(look, 80+float64(round), false)
}

func TestCalibrationMeasuresReleasesAndProposes(t *testing.T) {
	serve(t, &engine{sees: releases}, authorizer{})
	file := filepath.Join(t.TempDir(), "state", "gpu.jsonl")
	r := modectl(t.Context(), "calibrate", "gpu", "--interval", "1ms", "--file", file, "--releases", "3")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stdout, "3 releases measured, 0 indeterminate; recorded in "+file)
	require.Contains(t, r.stdout, "[gpu]\nresidual_mib = 160\n")
	require.Equal(t, 3, strings.Count(r.stderr, "  pass: "), r.stderr)

	// The record is kept: a person comes back, and so does the next run.
	shown := modectl(t.Context(), "calibrate", "gpu", "--show", "--file", file, "--json")
	require.Equal(t, exitOK, shown.code, shown.stderr)
	var got struct {
		Passes, Indeterminates int
		ResidualMiB            int `json:"residual_mib"`
		Releases               []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(shown.stdout), &got))
	require.Equal(t, 160, got.ResidualMiB)
	require.Len(t, got.Releases, 3)
	require.Equal(t, []any{"sway (pid 900, session-2.scope)"}, got.Releases[0]["holders"])

	r = modectl(t.Context(), "calibrate", "gpu", "--interval", "1ms", "--file", file, "--releases", "1")
	require.Contains(t, r.stdout, "4 releases measured")
}

// Everybody may calibrate, once a second and without other people's names.
func TestCalibrationNeedsNoPrivileges(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serve(t, &engine{sees: func(look int) status.View {
		if look == 3 {
			cancel()
		}
		return releases(2*look - 1)
	}}, authorizer{uid: 1000})
	file := filepath.Join(t.TempDir(), "gpu.jsonl")
	r := modectl(ctx, "calibrate", "gpu", "--interval", "100ms", "--file", file)
	require.Equal(t, exitOK, r.code, "that it is told to go slower is no failure: %s", r.stderr)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), "a process of uid 1001")
	require.NotContains(t, string(text), "sway")
}

func TestAnInterruptedCalibrationKeepsWhatItHas(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	serve(t, &engine{sees: func(look int) status.View {
		if look == 11 {
			cancel()
		}
		return releases(look)
	}}, authorizer{})
	file := filepath.Join(t.TempDir(), "gpu.jsonl")
	r := modectl(ctx, "calibrate", "gpu", "--interval", "1ms", "--file", file)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stdout, "1 releases measured, 1 indeterminate")
	require.Contains(t, r.stdout, "no threshold: 1 releases were measured")
	require.Contains(t, r.stderr, "indeterminate: the watch ended before its memory came to rest")
}

func TestThereHasToBeSomethingToCalibrate(t *testing.T) {
	at := observer.Reading{At: begin}
	cases := map[string]struct {
		change func(*observer.Snapshot)
		want   string
	}{
		"no probe": {func(s *observer.Snapshot) {
			s.GPU = observer.NVML{Reading: observer.Reading{At: begin, Reason: "the gpu probe is not there"}}
		}, "cannot calibrate: the gpu probe is not there"},
		"no driver":    {func(s *observer.Snapshot) { s.GPU = observer.NVML{Reading: at} }, "cannot calibrate: this host has no NVIDIA driver"},
		"no display":   {func(s *observer.Snapshot) { s.Processes.GPUs = nil }, "cannot calibrate: NVML lists no display GPU"},
		"another make": {func(s *observer.Snapshot) { s.GPU.Cards[0].PCI = "0000:02:00.0" }, "cannot calibrate: NVML lists no display GPU"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			serve(t, &engine{sees: func(look int) status.View {
				v := gpuAt(look, 80, false)
				c.change(&v.Snapshot)
				return v
			}}, authorizer{})
			file := filepath.Join(t.TempDir(), "gpu.jsonl")
			oneLine(t, modectl(t.Context(), "calibrate", "gpu", "--file", file), exitFailed, c.want)
			require.NoFileExists(t, file)
		})
	}
}

func TestARecordOfSomethingElseIsLeftAlone(t *testing.T) {
	serve(t, &engine{sees: releases}, authorizer{})
	file := filepath.Join(t.TempDir(), "diary")
	require.NoError(t, os.WriteFile(file, []byte("dear diary\n"), 0o600))
	oneLine(t, modectl(t.Context(), "calibrate", "gpu", "--file", file), exitFailed, "it is none of this version")
	oneLine(t, modectl(t.Context(), "calibrate", "gpu", "--show", "--file", file), exitFailed, "it is none of this version")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "dear diary\n", string(text))
	oneLine(t, modectl(t.Context(), "calibrate", "gpu", "--show", "--file", file+"x"), exitFailed, "cannot read the record")
}

func TestTheRecordIsInTheStateDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for state, want := range map[string]string{
		"": home + "/.local/state", "relative": home + "/.local/state", "/state": "/state",
	} {
		t.Setenv("XDG_STATE_HOME", state)
		got, err := stateFile("x")
		require.NoError(t, err)
		require.Equal(t, want+"/dubnium/x", got)
	}
}
