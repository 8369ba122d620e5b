//go:build e2e

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

// evidence waits until Observe, which looks afresh each time, gives a fact this
// truth, with a reason that has the text in it.
func (w *workstation) evidence(fact, truth, text string) {
	w.t.Helper()
	type variant struct{ Data json.RawMessage }
	var reply struct{ Data []map[string]variant }
	var facts, values map[string]variant
	var is, reason string
	for {
		out := w.sh("busctl --json=short call org.dubnium.Mode1 /org/dubnium/Mode1 org.dubnium.Mode1 Observe 'ta{sv}' 0 0")
		require.NoError(w.t, json.Unmarshal([]byte(out), &reply), out)
		require.NoError(w.t, json.Unmarshal(reply.Data[0]["facts"].Data, &facts))
		require.NoError(w.t, json.Unmarshal(facts[fact].Data, &values))
		require.NoError(w.t, json.Unmarshal(values["truth"].Data, &is))
		require.NoError(w.t, json.Unmarshal(values["reason"].Data, &reason))
		if is == truth && strings.Contains(reason, text) {
			return
		}
		require.NoError(w.t, w.ctx.Err(), "%s is %s: %s; waited for %s: %s", fact, is, reason, truth, text)
	}
}

func (w *workstation) playing(text string) {
	w.t.Helper()
	w.evidence("audio_active", "true", text)
}

func (w *workstation) silent() {
	w.t.Helper()
	w.evidence("audio_active", "false", "nothing plays or records")
}

// start starts a program of alice's desktop.
func (w *workstation) start(script string) *bed.Proc {
	w.t.Helper()
	return w.StartCommand(w.ctx, bed.Script("exec "+script).Within(bed.User))
}

// silence is a file that takes minutes to play: s16le, two channels, 48 kHz.
func (w *workstation) silence() string {
	w.t.Helper()
	const size, file = 100 << 20, "/home/alice/silence.wav"
	le := binary.LittleEndian
	wav := le.AppendUint32([]byte("RIFF"), 36+size)
	wav = le.AppendUint32(append(wav, "WAVEfmt "...), 16)
	wav = le.AppendUint16(le.AppendUint16(wav, 1), 2)
	wav = le.AppendUint32(le.AppendUint32(wav, 48000), 4*48000)
	wav = le.AppendUint16(le.AppendUint16(wav, 4), 16)
	wav = le.AppendUint32(append(wav, "data"...), size)
	w.PutBytes(w.ctx, wav, file, 0o644)
	w.sh("truncate -s +" + strconv.Itoa(size) + " " + file)
	return file
}

func (w *workstation) userctl(args string) {
	w.t.Helper()
	out, code := w.AsUser(w.ctx, bed.User, "systemctl --user "+args)
	require.Zero(w.t, code, out)
}

func TestWhatPlaysAndRecordsIsSeenAsWhatItIs(t *testing.T) {
	w := onDesktop(t)
	require.Equal(t, "active", w.active("dubnium-probe-audio@1000.socket"))
	require.Contains(t, w.sh("ps -o user=,args= -C dubnium-probe"), "alice", "the probe is the user's")
	assert.Equal(t, true, w.signal("audio_stack_running"))
	w.silent()
	file := w.silence()
	for _, c := range []struct{ script, seen string }{
		{"pw-cat -p " + file, "playback of pw-cat (uid 1000)"},
		{"paplay " + file, "playback of paplay (uid 1000)"},
		{"parec --raw /dev/null", "capture of parec (uid 1000)"},
		{"pw-jack jack_simple_client", "JACK client jack_simple_client"}, // linked
		{"pw-jack jack_metro -b 120", "metro (pid "},                     // not linked
	} {
		t.Log(c.script)
		p := w.start(c.script)
		w.playing(c.seen)
		require.NoError(t, p.Kill(w.ctx))
		w.silent()
	}
	assert.Equal(t, "desktop", w.current())
}
