package observer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/policy"
)

// quiet is a desktop whose audio is known, and silent.
func quiet() Snapshot {
	s := desktop()
	s.Processes.SoundComplete = true
	return s
}

func TestAudioActive(t *testing.T) {
	alices := func(change func(*AudioServer)) func(*Snapshot) {
		return func(s *Snapshot) { change(&s.Audio.Servers[0]) }
	}
	held := func(pcm PCM) func(*Snapshot) { return func(s *Snapshot) { s.Processes.PCMs = []PCM{pcm} } }
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
		"a user without an entry": {
			func(s *Snapshot) { s.Audio.Servers = nil }, Unknown, "uid 1000 has not been read yet",
		},
		"REAPER": {func(s *Snapshot) {
			s.Processes.DAWs = []Process{{PID: 9, Command: "reaper5", UID: 1000}}
		}, True, "reaper5 (pid 9, uid 1000) runs"},
		"REAPER as a client that is paused": {alices(func(a *AudioServer) {
			a.Streams = []AudioStream{{Direction: Capture, Corked: true, Application: "REAPER"}}
		}), True, "capture of REAPER (uid 1000)"},
		"REAPER, with a server that does not answer": {func(s *Snapshot) {
			s.Audio.Servers[0].Reason = "silence"
			s.Processes.DAWs = []Process{{PID: 9, Command: "reaper"}}
		}, True, "reaper (pid 9, uid 0) runs"},
		"a device open beside PipeWire": {
			held(PCM{"card0/pcm0p/sub0", Process{PID: 9, Command: "aplay", UID: 1000}}), True,
			"aplay (pid 9, uid 1000) has card0/pcm0p/sub0 open",
		},
		"a device of the server that was asked": {held(pipewire), False, ""},
		"a device of a server without an entry": {
			held(PCM{"card0/pcm0p/sub0", Process{PID: 9, Command: "pipewire", UID: 1001}}), True, "uid 1001",
		},
		"a probe that does not report sound": {
			func(s *Snapshot) { s.Processes.SoundComplete = false }, Unknown, "does not report the sound devices",
		},
		"a holders probe that fails": {func(s *Snapshot) { s.Processes.Reason = "broken" }, Unknown, "broken"},
		"sessions that cannot be read": {
			func(s *Snapshot) { s.Logind = Logind{Reading: Reading{At: readAt, Reason: "away"}} }, Unknown,
			"the users with a graphical session are unknown: away",
		},
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

func TestAudioActiveAge(t *testing.T) {
	s := quiet()
	s.Processes.At = readAt.Add(-time.Hour)
	f := Derive(policy.Default(), s)[AudioActive]
	assert.Equal(t, False, f.Truth)
	assert.Equal(t, SourceHolders, f.Source)
	assert.Equal(t, s.Processes.At, f.At)
	assert.True(t, f.Stale(readAt))
}

// TestDAWByPolicy: a corked stream counts only by the policy's names.
func TestDAWByPolicy(t *testing.T) {
	s := quiet()
	s.Audio.Servers[0].Streams = []AudioStream{{Direction: Capture, Corked: true, Application: "Ardour"}}
	p := policy.Default()
	assert.Equal(t, False, Derive(p, s).Is(AudioActive))
	assert.Empty(t, AudioEvidence(p.Audio, s))
	p.Audio.DAWs = []policy.Pattern{"Ardour*"}
	f := Derive(p, s)[AudioActive]
	assert.Equal(t, True, f.Truth)
	assert.Equal(t, "capture of Ardour (uid 1000)", f.Reason)
	assert.Equal(t, []string{f.Reason}, AudioEvidence(p.Audio, s))
}

func TestAudioRedaction(t *testing.T) {
	p, s := policy.Default(), quiet()
	s.Audio.Servers[0].Name = "PipeWire"
	for what, change := range map[string]func(*Snapshot){
		"a stream": func(s *Snapshot) {
			s.Audio.Servers[0].Streams = []AudioStream{{Direction: Playback, Application: "secret", Media: "secret", PID: 9}}
		},
		"a JACK client": func(s *Snapshot) { s.Audio.Servers[0].JACK = []JACKClient{{Application: "secret", PID: 9}} },
		"a sound device": func(s *Snapshot) {
			s.Processes.PCMs = []PCM{
				{Name: "card0/pcm0p/sub0", Process: Process{PID: 9, Command: "secret", UID: 1000, Unit: "secret.scope"}},
			}
		},
		"REAPER": func(s *Snapshot) {
			s.Processes.DAWs = []Process{{PID: 9, Command: "secret", UID: 1000, Session: "secret"}}
		},
		"headphones": func(s *Snapshot) {
			s.Audio.Servers[0].Devices = []AudioDevice{{Direction: Playback, Name: "secret", State: "RUNNING"}}
			s.Processes.DAWs = []Process{{UID: 1000, Command: "reaper"}}
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := s
			s.Audio.Servers = slices.Clone(s.Audio.Servers)
			change(&s)
			o := Classify(p, s, Context{}, readAt)
			whole := fmt.Sprintf("%+v", s)
			redacted, words := Redact(s, 1001)
			got := words.Observation(o)
			assert.NotContains(t, fmt.Sprintf("%+v %+v", redacted, got), "secret")
			assert.Equal(t, True, got.Facts.Is(AudioActive))
			assert.Contains(t, got.Facts[AudioActive].Reason, "of uid 1000")
			assert.Equal(t, whole, fmt.Sprintf("%+v", s), "what was handed out stays")

			own, words := Redact(s, 1000)
			assert.Equal(t, o.Facts[AudioActive], words.Observation(o).Facts[AudioActive])
			assert.Equal(t, s.Audio, own.Audio)
			assert.Equal(t, s.Processes.PCMs, own.Processes.PCMs)
			assert.Equal(t, s.Processes.DAWs, own.Processes.DAWs)
		})
	}
}

func TestAudioStackAllUsers(t *testing.T) {
	s := quiet()
	s.Logind.Sessions = append(
		s.Logind.Sessions, Session{ID: "7", User: "bob", UID: 1001, Class: "user", Type: "x11", Seat: "seat0"},
	)
	f := Derive(policy.Default(), s)[AudioStack]
	assert.Equal(t, Unknown, f.Truth)
	assert.Contains(t, f.Reason, "uid 1001")
	s.Audio.Servers = append(s.Audio.Servers, AudioServer{Reading: Reading{At: readAt}, UID: 1001})
	assert.Equal(t, False, Derive(policy.Default(), s).Is(AudioStack))
	s.Audio.Servers[1].Running = true
	assert.Equal(t, True, Derive(policy.Default(), s).Is(AudioStack))
	s.Audio.Servers[0].Reason = "silence"
	assert.Equal(t, Unknown, Derive(policy.Default(), s).Is(AudioStack))
}

func TestAudioNotRequired(t *testing.T) {
	p, s := policy.Default(), desktop()
	s.Audio.Servers[0].Running = false
	p.Audio.Required = false
	assert.Equal(t, Of(policy.Desktop), Classify(p, s, Context{}, readAt).State)
}

// fresh is a desktop whose only user logged in five seconds ago and whose audio server does not run
// yet.
func fresh() Snapshot {
	s := desktop()
	s.Logind.Sessions = slices.Clone(s.Logind.Sessions)
	for i := range s.Logind.Sessions {
		s.Logind.Sessions[i].Since = readAt.Add(-5 * time.Second)
	}
	s.Audio.Servers = slices.Clone(s.Audio.Servers)
	s.Audio.Servers[0].Running = false
	return s
}

func TestAudioGrace(t *testing.T) {
	p := policy.Default()
	over := readAt.Add(5 * time.Second)
	for what, c := range map[string]struct {
		change func(*policy.Policy, *Snapshot)
		at     time.Time
		whole  bool
	}{
		"just now":      {whole: true},
		"not asked yet": {whole: true, change: func(_ *policy.Policy, s *Snapshot) { s.Audio.Servers = nil }},
		"a probe that fails": {
			whole: true, change: func(_ *policy.Policy, s *Snapshot) { s.Audio.Servers[0].Reason = "no answer" },
		},
		"at the last moment": {whole: true, at: over.Add(-1)},
		"it is over":         {at: over},
		"a policy without":   {change: func(p *policy.Policy, _ *Snapshot) { p.Audio.Grace = 0 }},
		"an older session too": {change: func(_ *policy.Policy, s *Snapshot) {
			again := s.Logind.Sessions[0]
			again.ID, again.Since = "old", readAt.Add(-time.Hour)
			s.Logind.Sessions = append(s.Logind.Sessions, again)
		}},
		"somebody else's is missing": {change: func(_ *policy.Policy, s *Snapshot) {
			s.Logind.Sessions = append(
				s.Logind.Sessions,
				Session{ID: "9", UID: 1009, Class: "user", Type: "wayland", Seat: "seat0", Since: readAt.Add(-time.Hour)},
			)
		}},
		"nobody knows since when": {
			change: func(_ *policy.Policy, s *Snapshot) { s.Logind.Sessions[0].Since = time.Time{} },
		},
		"a clock that was set back": {at: readAt.Add(-time.Minute)},
	} {
		t.Run(what, func(t *testing.T) {
			p, s, at := p, fresh(), c.at
			if c.change != nil {
				c.change(&p, &s)
			}
			if at.IsZero() {
				at = readAt
			}
			o := Classify(p, s, Context{}, at)
			assert.Equal(t, c.whole, o.Is(policy.Desktop), "%s: %v", o.State, o.Reasons)
			assert.Equal(t, c.whole, o.Facts[AudioStack].Grace)
			assert.NotEqual(t, True, o.Facts.Is(AudioStack), "the fact stays what it is")
			if c.whole {
				assert.Equal(t, over, o.Expires, "it is readAt at again when that is over")
				assert.Equal(t, DegradedOf(policy.Desktop), Classify(p, s, Context{}, o.Expires).State)
			} else {
				assert.Equal(t, DegradedOf(policy.Desktop), o.State)
			}
		})
	}
	s := fresh()
	s.Audio.Servers[0].Running = true
	o := Classify(p, s, Context{}, readAt)
	assert.False(t, o.Facts[AudioStack].Grace)
	assert.NotEqual(t, over, o.Expires, "nothing waits for what is there")
	set(&s, p.Units.StudioPolicy, "active")
	set(&s, p.Units.AudioPriority, "active")
	s.Audio.Servers[0].Running = false
	assert.Equal(
		t, DegradedOf(policy.StudioLocal), Classify(p, s, Context{}, readAt).State, "a studio is nothing without its sound",
	)
}

func genAudio(t *rapid.T) Audio {
	a := Audio{Reading: genReading(t, "audio")}
	for uid := uint32(1000); uid < 1002; uid++ {
		if rapid.IntRange(0, 4).Draw(t, "asked") > 0 {
			a.Servers = append(a.Servers, AudioServer{
				Reading: genReading(t, "server"), UID: uid, Running: rapid.IntRange(0, 4).Draw(t, "running") > 0,
				Streams: rapid.SliceOfN(rapid.Custom(genStream), 0, 2).Draw(t, "streams"),
			})
		}
	}
	return a
}

func genStream(t *rapid.T) AudioStream {
	return AudioStream{
		Direction:   rapid.SampledFrom([]string{Playback, Capture}).Draw(t, "direction"),
		Corked:      rapid.Bool().Draw(t, "corked"),
		Application: rapid.SampledFrom([]string{"", "mpv", "REAPER"}).Draw(t, "application"),
	}
}

// TestAudioActiveProperty: the fact is False only if all sources of it are known, and none of them
// is active.
func TestAudioActiveProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Default()
		s := genSnapshot(p).Draw(t, "snapshot")
		s.Processes.SoundComplete = rapid.Bool().Draw(t, "told")
		f := Derive(p, s)
		all := s.Processes.Known() && s.Processes.SoundComplete && f.Is(GraphicalSession) != Unknown
		for _, uid := range s.Logind.GraphicalUsers() {
			server, asked := s.Audio.Of(uid)
			all = all && asked && server.Known()
			for _, stream := range server.Streams {
				if asked && server.Known() && !stream.Corked && f.Is(AudioActive) != True {
					t.Fatalf("%+v plays, and audio_active is %+v", stream, f[AudioActive])
				}
			}
		}
		if f.Is(AudioActive) == False && !all {
			t.Fatalf("silence is claimed while somebody was not heard: %+v", f[AudioActive])
		}
	})
}

// audioStacks returns all truths of the audio stack, with and without grace, for a host that may be
// a desktop with a session, where contracts depend on it. Otherwise it returns one truth, which
// changes with n: that combines each truth with every value of the other facts without tripling the
// number of cases.
func audioStacks(f Facts, n int) []Fact {
	if f.Is(DesktopTarget) == True && f.Is(GraphicalSession) == True {
		unknown, missing := numbered(Unknown), numbered(False)
		all := []Fact{unknown, missing, numbered(True)}
		unknown.Grace, missing.Grace = true, true
		return append(all, unknown, missing)
	}
	sum := 0
	for ; n > 0; n /= 3 {
		sum += n % 3
	}
	return []Fact{numbered(Truth(sum % 3))}
}
