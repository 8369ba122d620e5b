package embedded_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/pulsetest"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/recording"
)

// stories are what the corpus in observer/testdata/recordings shows.
var stories = map[string]func(t *testing.T, ctx context.Context, w *embedded.Workstation){
	"compute-and-back": func(t *testing.T, ctx context.Context, w *embedded.Workstation) {
		request(t, ctx, w, "compute", 0)
		request(t, ctx, w, "desktop", 0)
	},
	"overlay-and-a-refusal": func(t *testing.T, ctx context.Context, w *embedded.Workstation) {
		request(t, ctx, w, "studio-local", 0)
		require.NoError(t, w.Mask("compute.target"))
		request(t, ctx, w, "compute", 18)
		require.NoError(t, w.Unmask("compute.target"))
		request(t, ctx, w, "desktop", 0)
	},
	"an-audio-server-that-dies": dies,
}

// dies takes alice's audio server away in the overlay until the daemon has seen it,
// and gives her another.
func dies(t *testing.T, ctx context.Context, w *embedded.Workstation) {
	t.Helper()
	request(t, ctx, w, "studio-local", 0)
	w.Audio().Close()
	becomes(t, ctx, w, "degraded-studio-local")
	music := pulsetest.State{Playback: []pulsetest.Stream{{Media: "song"}}}
	server, err := pulsetest.Start(w.AudioSocket(), music)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	becomes(t, ctx, w, "studio-local")
	request(t, ctx, w, "desktop", 0)
}

// becomes waits for what the daemon publishes; each turn is one program.
func becomes(t *testing.T, ctx context.Context, w *embedded.Workstation, state string) {
	t.Helper()
	for {
		out, errs, _, err := w.Modectl(ctx, "current")
		require.NoError(t, err, errs)
		if strings.HasPrefix(out, state) {
			return
		}
		require.NoError(t, ctx.Err(), "waited for %s; it is %s", state, out)
	}
}

func request(t *testing.T, ctx context.Context, w *embedded.Workstation, mode string, want int) {
	t.Helper()
	out, errs, code, err := w.Modectl(ctx, "request", mode)
	require.NoError(t, err)
	require.Equal(t, want, code, out+errs)
}

// TestRecordAndReplay: the programs record a story, and replay calls every moment
// of it what it was called then; another policy is told apart. UPDATE_GOLDEN=1
// keeps the recordings as the corpus.
func TestRecordAndReplay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			w, err := embedded.Start(ctx, programs, embedded.Options{Host: testhost.Options{SecondGPU: true}})
			require.NoError(t, err)
			defer func() { assert.NoError(t, w.Close()) }()
			file := filepath.Join(t.TempDir(), "recording.jsonl")
			record(t, ctx, w, file, func() { story(t, ctx, w) })

			out, errs, code, err := embedded.Run(w.Program(ctx, "dubniumd", "replay", file))
			require.NoError(t, err)
			require.Zero(t, code, out+errs)
			strict := filepath.Join(t.TempDir(), "policy.toml")
			require.NoError(t, os.WriteFile(strict, []byte("[units]\ndesktop_target = \"other.target\"\n"), 0o644))
			out, _, code, err = embedded.Run(w.Program(ctx, "dubniumd", "replay", "--policy", strict, file))
			require.NoError(t, err)
			require.Equal(t, 2, code)
			require.Contains(t, out, "desktop (high; ) -> unknown (low; desktop-target-active-unknown)")
			keep(t, name, file, filepath.Dir(w.Policy.Paths.State), w.Dir())
		})
	}
}

// record records while do runs.
func record(t *testing.T, ctx context.Context, w *embedded.Workstation, file string, do func()) {
	t.Helper()
	cmd := w.ModectlCommand(ctx, "record", file)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return len(entries(file)) > 0 }, time.Minute, 10*time.Millisecond, "it has begun")
	do()
	// What was announced last is recorded soon after.
	require.Eventually(t, func() bool {
		all := entries(file)
		return all[len(all)-1].State == observer.State("desktop")
	}, time.Minute, 10*time.Millisecond, "it has seen the end")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(t, cmd.Wait(), said.String())
	require.Contains(t, said.String(), "recorded ")
}

func entries(file string) []recording.Entry {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	_, all, _, _ := recording.Read(f) // it may just have begun
	return all
}

// keep makes the recording part of the corpus, without the names of directories
// that are gone.
func keep(t *testing.T, name, file string, dirs ...string) {
	t.Helper()
	if os.Getenv("UPDATE_GOLDEN") != "1" {
		return
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	text := string(data)
	for _, dir := range dirs {
		text = strings.ReplaceAll(text, dir, "/run/simulated")
	}
	require.NoError(t, os.WriteFile("../../observer/testdata/recordings/"+name+".jsonl", []byte(text), 0o644))
}
