//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/rawbus"
	"github.com/dubnium/dubnium/internal/testhost"
)

// installedPolicy is a directory with the project's bus policy, for a bus that is as
// strict as the system's. Whoever runs the tests stands in for root.
func installedPolicy(t *testing.T) (dirs []string) {
	t.Helper()
	files, err := filepath.Glob("../../dbus-policy/*.conf")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	for _, file := range files {
		const root = `<policy user="root">`
		text := readFile(t, file)
		require.Contains(t, text, root)
		text = strings.ReplaceAll(text, root, fmt.Sprintf(`<policy user="%d">`, os.Geteuid()))
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(text), 0o644))
	}
	return []string{dir}
}

// answersByAction makes polkit grant these actions and no other.
func answersByAction(granted ...string) testhost.Authorize {
	return func(_ context.Context, r testhost.PolkitRequest) testhost.PolkitAnswer {
		return testhost.PolkitAnswer{Authorized: slices.Contains(granted, r.Action)}
	}
}

// strangerOf is one of the strangers, or whoever runs the tests when that is not root.
func strangerOf(n int) (uid int) {
	if os.Geteuid() != 0 {
		return rawbus.Self
	}
	return stranger + n%strangers
}

// durationOf reads a duration from the environment.
func durationOf(t *testing.T, variable string, otherwise time.Duration) time.Duration {
	t.Helper()
	text, set := os.LookupEnv(variable)
	if !set {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, variable)
	return d
}

// lasting is a context for a workstation that is needed for this long and for what
// follows.
func lasting(t *testing.T, long time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), long+4*patience)
	t.Cleanup(cancel)
	return ctx
}

// openFiles counts the descriptors of a process.
func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	require.NoError(t, err)
	return len(entries)
}

// logTail keeps the end of what the daemon says, and counts all of it.
type logTail struct {
	mu   sync.Mutex
	tail []byte
	all  int
}

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all += len(p)
	const kept = 64 << 10
	l.tail = append(l.tail, p[max(0, len(p)-kept):]...)
	l.tail = slices.Clone(l.tail[max(0, len(l.tail)-kept):])
	return len(p), nil
}

// written is how many bytes have been written.
func (l *logTail) written() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// lastWords is what a daemon that died said of it: how it panicked, or its last
// line. They are told once.
func (l *logTail) lastWords() (words string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(l.tail)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			words = line
			break
		}
		if line != "" {
			words = line
		}
	}
	l.tail = nil
	return fmt.Sprintf("%.200s", words)
}

// published is what no message of a stranger may change.
type published struct{ State, Confidence, Desired, By, Running string }

// look has the daemon look at the host, as root, and returns what it publishes then.
// For that it uses each of its connections, so it has read all that was sent to them.
func (f *fuzz) look(ctx context.Context) (published, error) {
	object := f.c.conn.Object(busapi.BusName, busapi.Path)
	var evidence, all busapi.Dict
	if err := object.CallWithContext(
		ctx, busapi.Interface+".Observe", 0, uint64(0), busapi.Dict{},
	).Store(&evidence); err != nil {
		return published{}, err
	}
	e, err := busapi.DecodeEvidence(evidence)
	if err != nil {
		return published{}, err
	}
	if err := object.CallWithContext(
		ctx, busapi.PropertiesInterface+".GetAll", 0, busapi.Interface,
	).Store(&all); err != nil {
		return published{}, err
	}
	p, err := busapi.DecodeProperties(all)
	if err != nil {
		return published{}, err
	}
	seen := published{
		string(e.Observation.State), string(e.Observation.Confidence), string(p.View.Desired.Mode), p.View.Desired.By,
		"nothing",
	}
	if p.View.Running != nil {
		seen.Running = fmt.Sprint(p.View.Running.ID)
	}
	return seen, nil
}

// alive notes what is not as it was before the messages. It returns false when the
// daemon has died.
func (f *fuzz) alive(t *testing.T, which string) bool {
	t.Helper()
	now, err := f.look(bounded(t))
	if err != nil {
		select {
		case <-f.gone:
			return false
		case <-time.After(5 * time.Second):
			f.fault("root cannot look", which+": "+err.Error())
			return true
		}
	}
	if now != f.before {
		f.fault("what is published has changed", fmt.Sprintf("%s: %+v, not %+v", which, now, f.before))
	}
	if n := f.leaked(); n > 0 {
		f.fault("the daemon has more files open than before", fmt.Sprintf("%s: %d more", which, n))
		f.descriptors += n
	}
	return true
}

// leaked is how many more files the daemon has open than before, for as long as one
// that it only reads might be.
func (f *fuzz) leaked() (more int) {
	for end := time.Now().Add(5 * time.Second); ; {
		entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(f.w.DaemonPID()), "fd"))
		if more = len(entries) - f.descriptors; err != nil || more <= 0 {
			return 0
		}
		if time.Now().After(end) {
			return more
		}
		<-time.After(20 * time.Millisecond)
	}
}

// ofContract reports whether an error's name is one that a client knows what to do
// about: the contract's, or one of the specification's.
func ofContract(name string) bool {
	const standard = "org.freedesktop.DBus.Error."
	known := busapi.FromDBus(dbus.Error{Name: name, Body: []any{""}})
	var raw dbus.Error
	return strings.HasPrefix(name, standard) || !errors.As(known, &raw)
}
