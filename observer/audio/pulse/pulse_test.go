package pulse

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/observer"
)

var busy = pulsetest.State{
	Clients: []pulsetest.Client{
		{Index: 1, Name: "pw-play", Properties: map[string]string{"application.process.id": "77"}},
		{Index: 2, Name: "jack", Properties: map[string]string{
			"client.api": "jack", "application.name": "metro", "application.process.id": "1", "pipewire.sec.pid": "88",
		}},
	},
	Playback: []pulsetest.Stream{
		{Client: 1, Media: "song", Properties: map[string]string{"node.name": "x"}},
		{Client: 9, Media: "film", Corked: true, Properties: map[string]string{
			"application.name": "mpv", "media.name": "a film", "application.process.id": "99",
		}},
	},
	Capture: []pulsetest.Stream{{Client: 1, Media: "voice"}},
	Sinks:   []pulsetest.Device{{Name: "speakers", State: 0}, {Name: "hdmi", State: 2}},
	Sources: []pulsetest.Device{{Name: "microphone", State: 1}, {Name: "broken", State: 0xFFFFFFFF}},
}

func TestTheStateIsReadAsWhatItIs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "native")
	server, err := pulsetest.Start(socket, busy)
	require.NoError(t, err)
	defer server.Close()
	conn, err := Dial(socket, nil)
	require.NoError(t, err)
	defer conn.Close()
	state, err := conn.State()
	require.NoError(t, err)
	assert.Equal(t, State{
		Name: "a server for tests",
		Streams: []observer.AudioStream{
			{Direction: "playback", Application: "pw-play", Media: "song", PID: 77},
			{Direction: "playback", Corked: true, Application: "mpv", Media: "a film", PID: 99},
			{Direction: "capture", Application: "pw-play", Media: "voice", PID: 77},
		},
		JACK: []observer.JACKClient{{Application: "metro", PID: 88}},
		Devices: []observer.AudioDevice{
			{Direction: "playback", Name: "speakers", State: "RUNNING"},
			{Direction: "playback", Name: "hdmi", State: "SUSPENDED"},
			{Direction: "capture", Name: "microphone", State: "IDLE"},
			{Direction: "capture", Name: "broken", State: "UNKNOWN"},
		},
	}, state)

	require.False(t, conn.Changed())
	server.Announce(1)
	require.NoError(t, conn.Heard(<-conn.Messages()))
	require.True(t, conn.Changed())
	server.Close()
	require.ErrorIs(t, conn.Heard(<-conn.Messages()), io.EOF)
	_, err = Dial(socket, nil)
	require.True(t, Down(err), "%v", err)
}

// hostile is a server that says these bytes to everybody, and then either hangs up
// or does not.
func hostile(t *testing.T, says []byte, hangUp bool) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "native")
	l, err := net.Listen("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(io.Discard, conn)
			conn.Write(says)
			if hangUp {
				conn.Close()
			} else {
				t.Cleanup(func() { conn.Close() })
			}
		}
	}()
	return socket
}

func head(length, channel uint32) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint32(b, length)
	binary.BigEndian.PutUint32(b[4:], channel)
	return b
}

func TestAHostileServerCostsNothing(t *testing.T) {
	reply := func(body ...byte) []byte {
		return append(head(uint32(10+len(body)), control), append([]byte{'L', 0, 0, 0, 2, 'L', 0, 0, 0, 1}, body...)...)
	}
	cases := map[string]struct {
		says   []byte
		hangUp bool
		want   string
	}{
		"garbage":                    {bytes.Repeat([]byte("garbage!"), 1000), false, "announced a message of"},
		"a length of 4 GiB":          {head(0xFFFFFFFF, control), false, "announced a message of 4294967295 bytes"},
		"a large length and nothing": {head(maxFrame, control), true, ""},
		"an end of file at once":     {nil, true, ""},
		"half a header":              {head(100, control)[:7], true, ""},
		"silence":                    {nil, false, "did not answer in time"},
		"an empty message":           {head(0, control), false, "does not speak the protocol"},
		"an answer without values":   {reply(), false, "version 0"},
		"an old version":             {reply('L', 0, 0, 0, 8), false, "version 8"},
		"a refusal": {
			append(head(15, control), 'L', 0, 0, 0, 0, 'L', 0, 0, 0, 1, 'L', 0, 0, 0, 1), false, "refuses with error 1",
		},
		"a flood of what nobody asked": {
			bytes.Repeat(append(head(10, control), 'L', 0, 0, 0, 66, 'L', 0, 0, 0, 9), maxStray+1), false, "answers nothing",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Dial(hostile(t, c.says, c.hangUp), nil)
			require.Error(t, err)
			require.Contains(t, err.Error(), c.want)
			require.False(t, Down(err))
		})
	}
}

func TestALengthThatIsALieIsNotAllocated(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		_, _, err := frame(bytes.NewReader(head(maxFrame, control)))
		require.Error(t, err)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(maxFrame))
}

// FuzzState: no answer of a server crashes the probe or makes it spin.
func FuzzState(f *testing.F) {
	f.Add([]byte{'L', 0, 0, 0, 1, 't', 'x', 0, 'L', 0, 0, 0, 0, 'N', 'P', 't', 'k', 0, 'L', 0, 0, 0, 1, 'x', 0, 0, 0, 1, 'v', 'N'})
	f.Add([]byte{'L', 0, 0, 0, 1, 't', 'x', 0, 'L', 0, 0, 0, 0, 'N', 'P', 't', 'k', 0, 'L', 255, 255, 255, 255, 'x', 255, 255, 255, 255})
	f.Add([]byte{'m', 255, 1})
	f.Add([]byte{'L', 255, 255, 255, 255, 't', 'a', 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, read := range []func(*State, *values){
			func(s *State, v *values) { s.client(v, map[uint32]client{}) },
			func(s *State, v *values) { s.device(v, observer.Playback) },
			func(s *State, v *values) { s.stream(v, observer.Playback, nil) },
			func(s *State, v *values) { s.stream(v, observer.Capture, nil) },
			func(_ *State, v *values) { v.ports() },
		} {
			v, last := &values{rest: data}, len(data)+1
			for v.more() {
				require.Less(t, len(v.rest), last, "each item takes something")
				last = len(v.rest)
				read(&State{}, v)
			}
		}
	})
}
