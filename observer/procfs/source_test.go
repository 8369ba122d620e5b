package procfs

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer"
)

func look(t *testing.T, root string) observer.Procfs {
	t.Helper()
	p, ok := New(root).Read(t.Context()).(observer.Procfs)
	require.True(t, ok)
	require.True(t, p.Known())
	return p
}

func is(t *testing.T, want float64, m observer.Measure) {
	t.Helper()
	require.NotNil(t, m.Value, m.Reason)
	assert.InDelta(t, want, *m.Value, 1e-9)
	assert.Empty(t, m.Reason)
}

func TestReadSimulated(t *testing.T) {
	p := look(t, filepath.Join(hosttest.Start(t, testhost.Options{}).Root(), "proc"))
	is(t, 2, p.Cores)
	is(t, 0.10, p.LoadPerCore)
	is(t, 0, p.PressureIO)
	is(t, 65536000*1024, p.MemTotal)
	is(t, 53248000*1024, p.MemAvailable)
}

func TestReadReal(t *testing.T) {
	p := look(t, Root)
	assert.NotNil(t, p.LoadPerCore.Value, p.LoadPerCore.Reason)
	assert.NotNil(t, p.MemTotal.Value, p.MemTotal.Reason)
}

// write makes a proc with these files only.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return root
}

func TestMissingFiles(t *testing.T) {
	p := look(t, write(t, map[string]string{
		"loadavg": "3.00 1.00 1.00 1/1 1\n", "stat": "cpu 1\ncpu0 1\ncpu2 1\nintr 5\ncpu9 no\n",
		"pressure/io": "full avg10=1.00\n",
		"meminfo":     "MemTotal: 10 kB\nMemAvailable: 7 pages\n",
	}))
	is(t, 1.5, p.LoadPerCore)
	is(t, 10240, p.MemTotal)
	for want, m := range map[string]observer.Measure{
		"this kernel does not measure pressure (CONFIG_PSI, psi=1)":              p.PressureCPU,
		"/proc/pressure/io has an unknown format: a value is missing or invalid": p.PressureIO,
		"/proc/meminfo has an unknown format: a value is missing or invalid":     p.MemAvailable,
	} {
		assert.Nil(t, m.Value)
		assert.Equal(t, want, m.Reason)
	}
}

func TestLoadWithoutCores(t *testing.T) {
	p := look(t, write(t, map[string]string{"loadavg": "3.00 1.00 1.00 1/1 1\n"}))
	assert.Nil(t, p.LoadPerCore.Value)
	assert.Equal(t, "/proc/stat cannot be read: no such file or directory", p.LoadPerCore.Reason)
}

func TestEndlessFile(t *testing.T) {
	root := write(t, map[string]string{"meminfo": strings.Repeat("Hugepages: 1 kB\n", bound/10) + "MemTotal: 10 kB\n"})
	assert.Equal(t, "/proc/meminfo has an unknown format: it has no MemTotal", look(t, root).MemTotal.Reason)
}

func TestNextPoll(t *testing.T) {
	assert.Zero(
		t, New(Root).NextPoll(observer.Snapshot{Procfs: observer.Procfs{Reading: observer.Reading{At: time.Now()}}}),
	)
}

// FuzzParse: no text makes a parser panic or gives a number that is none.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"0.20 0.18 0.12 1/512 4242\n", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=99.99\n",
		"cpu  10 0 10\ncpu0 5\ncpu1 5\nintr 1\n", "MemTotal:       65536000 kB\nMemAvailable: 1 kB\n",
		"", "some avg10=NaN\n", "some avg10=1e400", "-1 0", "MemTotal: 0x1p-2 kB", "cpu99999999999",
		"some avg10=101.00", "\xff\x00 some",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (float64, error){
			load1, online, someAvg10, row("MemTotal"), row("MemAvailable"),
		} {
			if n, err := parse(text); err == nil && (math.IsNaN(n) || n < 0 || n > 1e22) {
				t.Errorf("%q gives %v", text, n)
			}
		}
		if n, err := someAvg10(text); err == nil && n > 100 {
			t.Errorf("%q gives %v percent", text, n)
		}
	})
}
