package observer

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

// quiet is a desktop whose audio is known, and silent.
func quiet() Snapshot {
	s := desktop()
	s.Holders.PCMs, s.Holders.Reapers = []PCM{}, []Process{}
	return s
}

func TestAudioActive(t *testing.T) {
	alices := func(change func(*AudioServer)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.Audio.Servers[0]) }
	}
	held := func(pcm PCM) func(*Snapshot) { return func(s *Snapshot) { s.Holders.PCMs = []PCM{pcm} } }
	pipewire := PCM{"card0/pcm0p/sub0", Process{PID: 800, Command: "pipewire", UID: 1000}}
	cases := map[string]struct {
		change func(*Snapshot)
		want   Truth
		reason string
	}{
		"silence": {func(*Snapshot) {}, False, "nothing plays or records"},
		"music": {alices(func(a *AudioServer) {
			a.Streams = []AudioStream{{Direction: Capture, Corked: true}, {Direction: Playback, Application: "mpv"}}
		}), True, "playback of mpv (uid 1000)"},
		"a paused player": {alices(func(a *AudioServer) {
			a.Streams = []AudioStream{{Direction: Playback, Corked: true}}
		}), False, ""},
		"a JACK client": {alices(func(a *AudioServer) {
			a.JACK = []JACKClient{{Application: "metro", PID: 7}}
		}), True, "JACK client metro (pid 7, uid 1000)"},
		"a server that does not answer": {alices(func(a *AudioServer) { a.Reason = "silence" }), Unknown, "silence"},
		"no server":                     {alices(func(a *AudioServer) { a.Running = false }), False, ""},
		"a user nobody asked about":     {func(s *Snapshot) { s.Audio.Servers = nil }, Unknown, "uid 1000 has not been asked yet"},
		"REAPER": {func(s *Snapshot) {
			s.Holders.Reapers = []Process{{PID: 9, Command: "reaper5", UID: 1000}}
		}, True, "reaper5 runs (pid 9, uid 1000)"},
		"REAPER, with a server that does not answer": {func(s *Snapshot) {
			s.Audio.Servers[0].Reason = "silence"
			s.Holders.Reapers = []Process{{PID: 9, Command: "reaper"}}
		}, True, "reaper runs"},
		"a device open beside PipeWire":         {held(PCM{"card0/pcm0p/sub0", Process{PID: 9, Command: "aplay", UID: 1000}}), True, "aplay (pid 9, uid 1000) has card0/pcm0p/sub0 open"},
		"a device of the server that was asked": {held(pipewire), False, ""},
		"a device of a server nobody asks":      {held(PCM{"card0/pcm0p/sub0", Process{PID: 9, Command: "pipewire", UID: 1001}}), True, "uid 1001"},
		"a probe that says nothing of sound":    {func(s *Snapshot) { s.Holders.PCMs = nil }, Unknown, "does not say who uses"},
		"a holders probe that fails":            {func(s *Snapshot) { s.Holders.Reason = "broken" }, Unknown, "broken"},
		"sessions that cannot be read":          {func(s *Snapshot) { s.Logind = Logind{Reading: Reading{At: looked, Reason: "away"}} }, Unknown, "whose audio to look at cannot be told: away"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := quiet()
			c.change(&s)
			f := Derive(policy.Default(), s)[AudioActive]
			assert.Equal(t, c.want, f.Truth, f.Reason)
			assert.Contains(t, f.Reason, c.reason)
		})
	}
}

func TestAudioStackNeedsEveryPersonsServer(t *testing.T) {
	s := quiet()
	s.Logind.Sessions = append(s.Logind.Sessions, Session{ID: "7", User: "bob", UID: 1001, Class: "user", Type: "x11"})
	f := Derive(policy.Default(), s)[AudioStack]
	assert.Equal(t, Unknown, f.Truth)
	assert.Contains(t, f.Reason, "uid 1001")
	s.Audio.Servers = append(s.Audio.Servers, AudioServer{Reading: Reading{At: looked}, UID: 1001})
	assert.Equal(t, False, Derive(policy.Default(), s).Is(AudioStack))
	s.Audio.Servers[1].Running = true
	assert.Equal(t, True, Derive(policy.Default(), s).Is(AudioStack))
	s.Audio.Servers[0].Reason = "silence"
	assert.Equal(t, Unknown, Derive(policy.Default(), s).Is(AudioStack))
}

func TestAHostWithoutAPromiseOfSoundIsWhole(t *testing.T) {
	p, s := policy.Default(), desktop()
	s.Audio.Servers[0].Running = false
	p.Audio.Required = false
	assert.Equal(t, Of(policy.Desktop), Classify(p, s, Context{}, looked).State)
}

func genAudio(t *rapid.T) Audio {
	a := Audio{Reading: genReading(t, "audio")}
	for uid := uint32(1000); uid < 1002; uid++ {
		if rapid.IntRange(0, 4).Draw(t, "asked") > 0 {
			a.Servers = append(a.Servers, AudioServer{
				Reading: genReading(t, "server"), UID: uid, Running: rapid.IntRange(0, 4).Draw(t, "running") > 0,
			})
		}
	}
	return a
}
