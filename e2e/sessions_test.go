//go:build e2e

package e2e

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
	"github.com/dubnium/dubnium/observer"
)

// snapshot is what `modectl current --json` says was seen.
func (w *workstation) snapshot() (seen observer.Snapshot) {
	w.t.Helper()
	var current struct{ Evidence *observer.Snapshot }
	current.Evidence = &seen
	require.NoError(w.t, json.Unmarshal([]byte(w.sh("modectl current --json --refresh")), &current))
	return seen
}

// session is that user's session of that kind in the evidence, the user manager's aside.
func (w *workstation) session(user string, kind observer.Kind) (observer.Session, bool) {
	w.t.Helper()
	all := w.snapshot().Logind.Sessions
	i := slices.IndexFunc(
		all, func(s observer.Session) bool { return s.User == user && s.Kind() == kind && s.Class != "manager" },
	)
	if i < 0 {
		return observer.Session{}, false
	}
	return all[i], true
}

// A login opens a session as pam_systemd makes it, and ends when its unit is stopped.
type login struct {
	user  string
	open  string // a script that starts the unit
	unit  string
	kind  observer.Kind
	check func(*testing.T, observer.Session)
}

// seat opens a session on a console of seat0 without a login program: what counts is what PAM is told.
func seat(unit, user, vt, class, kind string) string {
	return "systemd-run -q --unit " + unit + " -p PAMName=login -p User=" + user + " -p TTYPath=/dev/tty" + vt +
		" -p StandardInput=tty -E XDG_SEAT=seat0 -E XDG_VTNR=" + vt + " -E XDG_SESSION_CLASS=" + class +
		" -E XDG_SESSION_TYPE=" + kind + " sleep infinity"
}

func logins() map[string]login {
	return map[string]login{
		"on a console": {
			user: bed.Bob, unit: "tty-login@bob.service", open: "systemctl start tty-login@bob.service", kind: observer.KindOther,
			check: func(t *testing.T, s observer.Session) {
				assert.Equal(t, "tty", s.Type)
				assert.Equal(t, "seat0", s.Seat)
				assert.False(t, s.Remote)
			},
		},
		"over ssh": {
			user: bed.Bob, unit: "from-afar.service", kind: observer.KindOther,
			open: `ssh-keygen -A >/dev/null && systemctl start ssh.service
				test -e /root/.ssh/id_ed25519 || ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
				install -d -o bob -m 700 /home/bob/.ssh && install -o bob -m 600 /root/.ssh/id_ed25519.pub /home/bob/.ssh/authorized_keys
				systemd-run -q --unit from-afar.service ssh -o StrictHostKeyChecking=no bob@127.0.0.1 sleep infinity`,
			check: func(t *testing.T, s observer.Session) {
				assert.True(t, s.Remote)
				assert.Empty(t, s.Seat)
				assert.Equal(t, "sshd", s.Service)
			},
		},
		"a second desktop": {
			user: bed.Bob, unit: "bobs-desktop.service", open: seat("bobs-desktop", "bob", "8", "user", "wayland"),
			kind: observer.KindGraphical,
			check: func(t *testing.T, s observer.Session) {
				assert.Equal(t, "wayland", s.Type)
				assert.EqualValues(t, 1001, s.UID)
			},
		},
		"a second greeter": {
			user: "_greetd", unit: "greeter.service", open: seat("greeter", "_greetd", "9", "greeter", "wayland"),
			kind: observer.KindGreeter,
		},
	}
}

func TestEverySessionShowsAsWhatItIsAndGoesWhenItGoes(t *testing.T) {
	w := onDesktop(t)
	alice, there := w.session(bed.User, observer.KindGraphical)
	require.True(t, there)
	assert.Equal(t, "greetd", alice.Service)
	all := logins()
	if !soaking {
		all = map[string]login{"a second desktop": all["a second desktop"]}
	}
	for name, l := range all {
		t.Run(name, func(t *testing.T) {
			w := w.within(t)
			w.sh(l.open)
			w.WaitFor(w.ctx, "the session",
				"grep -D skip -ls '^USER="+l.user+"$' /run/systemd/sessions/* | xargs -r grep -LsE '^CLASS=manager' | grep -q .")
			s, there := w.session(l.user, l.kind)
			require.True(t, there, "%+v", w.snapshot().Logind.Sessions)
			if l.check != nil {
				l.check(t, s)
			}
			assert.Equal(t, l.kind == observer.KindGreeter, w.signal("greeter_active"))
			assert.Equal(t, "desktop", w.current(), "alice is still there")

			w.sh("systemctl stop " + l.unit + "; loginctl terminate-session " + s.ID + " 2>/dev/null || true")
			w.WaitGone(w.ctx, "/run/systemd/sessions/"+s.ID)
			_, there = w.session(l.user, l.kind)
			assert.False(t, there, "%+v", w.snapshot().Logind.Sessions)
		})
	}
	still, _ := w.session(bed.User, observer.KindGraphical)
	assert.Equal(t, alice.ID, still.ID)
}

// underTheUserManager has a unit of alice's user manager hold the GPU as a compositor does that runs there (UWSM
// starts it so). It outlives the session by UserStopDelaySec=.
func (w *workstation) underTheUserManager() {
	w.t.Helper()
	out, code := w.AsUser(w.ctx, bed.User,
		"systemd-run --user -q --unit wayland-wm.service sh -c 'exec 3<>/dev/dri/renderD128; exec sleep infinity'")
	require.Zero(w.t, code, out)
	w.WaitFor(w.ctx, "it to hold the GPU", "ls -l /proc/$(pgrep -xf 'sleep infinity' -u alice)/fd | grep -q renderD128")
	holders := w.snapshot().Processes.Holders
	i := slices.IndexFunc(
		holders, func(h observer.Holder) bool { return h.Unit == "user@1000.service/wayland-wm.service" },
	)
	require.GreaterOrEqual(w.t, i, 0, "%+v", holders)
	assert.Equal(w.t, []string{"renderD128"}, holders[i].Nodes)
	assert.EqualValues(w.t, 1000, holders[i].UID)
}
