package observer

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

func TestFingerprintStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot(policy.Default()).Draw(t, "snapshot")
		later := s
		for _, r := range []*Reading{
			&later.Systemd.Reading, &later.Logind.Reading, &later.Processes.Reading, &later.Inference.Reading,
			&later.Audio.Reading,
		} {
			if r.WasRead() {
				r.At = r.At.Add(time.Hour)
			}
		}
		load := 3.5
		later.Procfs = Procfs{Reading: Reading{At: readAt}, LoadPerCore: Measure{Value: &load}}
		later.Inference.Running = &load
		later.Locks.Transition = Lock{Path: "/run/mode-controller/lock", Held: true, PID: 7, Own: true}
		later.Audio.Servers = slices.Clone(s.Audio.Servers)
		for i := range later.Audio.Servers {
			if r := &later.Audio.Servers[i]; r.WasRead() {
				r.At = r.At.Add(time.Hour)
			}
		}
		slices.Reverse(later.Audio.Servers)
		later.Logind.Sessions, later.Processes.Holders = slices.Clone(s.Logind.Sessions), slices.Clone(s.Processes.Holders)
		slices.Reverse(later.Logind.Sessions)
		slices.Reverse(later.Processes.Holders)
		require.Equal(t, s.Fingerprint(), later.Fingerprint())
	})
}

func TestFingerprintChanges(t *testing.T) {
	seen := map[string]string{desktop().Fingerprint(): "nothing"}
	for what, change := range map[string]func(*Snapshot){
		"a unit":          func(s *Snapshot) { set(s, "vllm.service", "active") },
		"another run":     func(s *Snapshot) { s.Systemd.Units["vllm.service"] = Unit{InvocationID: "ab"} },
		"the manager":     func(s *Snapshot) { s.Systemd.State = "degraded" },
		"a session's end": func(s *Snapshot) { s.Logind.Sessions = s.Logind.Sessions[:1] },
		"a holder":        func(s *Snapshot) { s.Processes.Holders = nil },
		"health":          func(s *Snapshot) { s.Inference.Healthy = true },
		"a rebuild":       func(s *Snapshot) { s.Locks.Rebuild.Held = true },
		"a broken source": func(s *Snapshot) { s.Logind.Reason = "no answer" },
		"an audio server": func(s *Snapshot) { s.Audio.Servers[0].Running = false },
		"a stream":        func(s *Snapshot) { s.Audio.Servers[0].Streams = []AudioStream{{Direction: Playback}} },
		"REAPER":          func(s *Snapshot) { s.Processes.DAWs = []Process{{Command: "reaper"}} },
		"one never read":  func(s *Snapshot) { s.Processes.At = time.Time{} },
	} {
		s := desktop()
		change(&s)
		other, same := seen[s.Fingerprint()]
		assert.False(t, same, "%s has the fingerprint of %s", what, other)
		seen[s.Fingerprint()] = what
	}
}

func TestHolderRedaction(t *testing.T) {
	p := policy.Default()
	s := compute()
	s.Processes.Holders = []Holder{
		{
			GPU: "0000:01:00.0", PID: 900, Command: "secretgame", UID: 1001, Unit: "session-2.scope", Session: "2",
			Nodes: []string{"card0"},
		},
		{GPU: "0000:01:00.0", PID: 901, Command: "mine", UID: 1000, Unit: "session-3.scope"},
	}
	o := Classify(p, s, Context{}, readAt)
	require.Contains(t, o.Conflicts[0].Text, "secretgame")

	redacted, words := Redact(s, 1000)
	got := words.Observation(o)
	assert.Equal(t, Holder{GPU: "0000:01:00.0", UID: 1001, Redacted: true}, redacted.Processes.Holders[0])
	assert.Equal(t, s.Processes.Holders[1], redacted.Processes.Holders[1], "one's own is one's own")
	assert.Equal(t, "a process of uid 1001 holds 0000:01:00.0 and 1 more", got.Facts[DisplayReleased].Reason)
	for _, text := range []string{got.Reasons[0].Text, got.Conflicts[0].Text, got.Facts[DisplayReleased].Reason} {
		assert.NotContains(t, text, "secretgame")
	}
	assert.Contains(t, o.Conflicts[0].Text, "secretgame", "what was handed out stays")
	assert.Equal(t, "secretgame", s.Processes.Holders[0].Command)

	whole, words := Redact(s, 0)
	assert.Equal(t, s, whole)
	assert.Equal(t, o, words.Observation(o))
}
