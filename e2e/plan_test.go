//go:build e2e

package e2e

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
)

// dryRun is what `modectl dry-run --json` says, which has to exit with that code.
func (w *workstation) dryRun(mode string, code int) (p status.Preview) {
	w.t.Helper()
	out, got := w.modectl("dry-run --json " + mode)
	require.Equal(w.t, code, got, out)
	require.NoError(w.t, json.Unmarshal([]byte(out), &p), out)
	return p
}

// changing are the methods of systemd, logind and the daemon that change something.
var changing = regexp.MustCompile(`^(Start|Stop|Restart|Reload|TryRestart|Isolate|Kill|Terminate|Lock|Activate|Set|Reset|Enqueue|Mask|Unmask|Enable|Disable|Freeze|Thaw|Attach|Create|Inhibit|RequestMode)`)

// heard is one message on the bus, as busctl tells it.
type heard struct{ Type, Sender, Interface, Member string }

// overhears returns the calls on the bus while f runs, and the daemon's signals.
func (w *workstation) overhears(f func()) (all []heard) {
	w.t.Helper()
	monitor := w.Start(w.ctx, `exec busctl monitor --json=short --match "type='method_call'" --match "type='signal',sender='org.dubnium.Mode1'" >/run/heard 2>/run/monitor`)
	mark := func(name string) {
		w.WaitFor(w.ctx, "the monitor to hear "+name,
			"busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus NameHasOwner s org.dubnium."+
				name+" && grep -q org.dubnium."+name+" /run/heard")
	}
	mark("begin")
	f()
	mark("end")
	require.NoError(w.t, monitor.Kill(w.ctx))
	for line := range strings.Lines(w.sh("cat /run/heard")) {
		var m heard
		if json.Unmarshal([]byte(strings.TrimPrefix(line, "\x1e")), &m) == nil && m.Type != "" {
			all = append(all, m)
		}
	}
	return all
}

// shownWithoutATrace: by the bus, the files and the journal nothing happens while the
// plan for mode is shown. It tells what extra.service is, which somebody has started.
func (w *workstation) shownWithoutATrace(mode string) (p status.Preview) {
	w.t.Helper()
	t := w.t
	w.dryRun(mode, 0) // what nobody has looked at for a while is news once
	const traces = `find /run/mode-controller /var/lib/mode-controller -type f -printf '%p %T@ %s\n' | sort
		systemctl list-units --no-legend --plain --state=active '*.target' greetd.service vllm.service extra.service | cut -d' ' -f1`
	before, compositor := w.sh(traces), w.CompositorPID(w.ctx)
	cursor := w.sh("journalctl --sync; journalctl -n 0 --show-cursor -q | sed -n 's/^-- cursor: //p'")
	require.NotEmpty(t, cursor)

	messages := w.overhears(func() {
		for _, form := range []string{"", " --dot"} {
			out, code := w.modectl("dry-run " + mode + form)
			require.Zero(t, code, out)
		}
		p = w.dryRun(mode, 0)
	})
	assert.Equal(t, before, w.sh(traces))
	assert.Equal(t, compositor, w.CompositorPID(w.ctx))
	w.sh("journalctl --sync")
	assert.Empty(t, w.journal("-o cat --after-cursor='"+cursor+"' -u dubniumd.service"))
	plans := 0
	for _, m := range messages {
		if m.Type == "signal" {
			assert.Fail(t, "the daemon announced something", "%+v", m)
			continue
		}
		assert.NotRegexp(t, changing, m.Member, "%+v", m)
		if m.Interface == "org.dubnium.Mode1" && m.Member == "Plan" {
			plans++
		}
	}
	assert.Equal(t, 3, plans, "the monitor has heard it")

	stops := map[string]bool{}
	for _, c := range p.Stops {
		stops[c.Unit] = c.Transient
	}
	require.Contains(t, stops, "extra.service")
	assert.True(t, stops["extra.service"], "it has no file")
	assert.Contains(t, stops, "greetd.service")
	assert.NotContains(t, stops, "dubniumd.service")
	assert.Equal(t, "alice", p.Sessions[0].User)
	return p
}
