package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/rapidtest"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// promises are what calls between two reads of a running transition were answered.
type promises struct {
	mu       sync.Mutex
	canceled bool
	notUntil time.Time       // nothing may be taken before: a postponement
	delays   map[uint32]bool // delay inhibitors that are held
	delayed  time.Time       // until when they count
	blocks   bool            // a block inhibitor was accepted
	guest    bool            // bob has logged in, whose session may not be ended
	taken    bool            // the transition has ended a session or isolated a target
	broken   []string
}

func (p *promises) violated(format string, args ...any) {
	p.broken = append(p.broken, fmt.Sprintf(format, args...))
}

// taking is called before each call of a handler that takes something.
func (p *promises) taking(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, first := time.Now(), !p.taken
	p.taken = true
	switch {
	case !first:
	case p.canceled:
		p.violated("%s after a cancel that was accepted", what)
	case now.Before(p.notUntil):
		p.violated("%s at %s, postponed to %s", what, now, p.notUntil)
	case len(p.delays) > 0 && now.Before(p.delayed):
		p.violated("%s at %s, delayed to %s", what, now, p.delayed)
	case p.blocks:
		p.violated("%s although an inhibitor that was accepted blocks it", what)
	}
}

// between acts in the middle of reads of a running transition.
type between struct {
	*harness
	promises
	acts map[int]string // by the number of the read
	read int
}

func (b *between) act() {
	running := b.View().Running
	if running == nil {
		return
	}
	b.mu.Lock()
	b.read++
	action, taken := b.acts[b.read], b.taken
	b.mu.Unlock()
	ctx := context.Background()
	switch action {
	case "cancel":
		b.keep(b.Cancel(ctx, running.ID, "bob"), func() { b.canceled = true })
	case "postpone":
		b.keep(b.Postpone(ctx, running.ID, 20*time.Second), func() {
			b.notUntil = time.Now().Add(20 * time.Second) // at least
			if len(b.delays) == 0 {
				b.notUntil = b.View().Running.Deadline
			}
		})
	case "delay":
		id, err := b.Inhibit(ctx, status.Inhibitor{How: status.Delay, Holder: ":1.9", Mode: policy.Compute})
		b.keep(err, func() {
			b.delays[id] = true
			if b.delayed.IsZero() { // the announcement may come later, and then bounds it
				b.delayed = time.Now().Add(b.host.policy.Announce.MaxDelay.D())
			}
			if d := b.View().Running.Deadline; !d.IsZero() {
				b.delayed = d
			}
		})
	case "block":
		_, err := b.Inhibit(ctx, status.Inhibitor{How: status.Block, Holder: ":1.10", Mode: policy.Compute})
		b.keep(err, func() { b.blocks = true })
	case "release":
		b.keep(b.HolderLeft(ctx, ":1.9"), func() { clear(b.delays) })
		b.keep(b.HolderLeft(ctx, ":1.10"), func() { b.blocks = false })
	case "log in":
		if taken {
			return
		}
		b.host.change(func() {
			b.host.now.Logind.Sessions = append(slices.Clone(b.host.now.Logind.Sessions),
				observer.Session{ID: "9", UID: 1001, User: "bob", Class: "user", Type: "wayland", Seat: "seat0"})
		})
		b.keep(nil, func() { b.guest = true })
	case "reload":
		next := b.View().Policy
		next.Announce.MaxPostpone++
		_, err := b.Reload(ctx, next)
		b.keep(err, func() {})
	}
}

func (b *between) keep(err error, promise func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		promise()
	}
}

// TestInvariantsBetweenReads: people cancel, postpone, inhibit, log in and
// reload while a transition to compute reads the host. What the daemon accepts, it
// keeps; what comes too late, it refuses. And it goes on after a crash at any moment.
func TestInvariantsBetweenReads(t *testing.T) {
	rapidtest.Quick(t, 80/sample, 0)
	synctest.Test(t, func(t *testing.T) {
		base, n := t.TempDir(), 0
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) {
			n++
			betweenReads(t, rt, filepath.Join(base, fmt.Sprint(n)))
		})
	})
}

func betweenReads(t *testing.T, rt *rapid.T, dir string) {
	host := newFakeHost(testPolicy(dir))
	b := &between{harness: startHarness(t, host, dir, thisBoot), acts: map[int]string{}}
	b.delays = map[uint32]bool{}
	defer func() { b.stop() }()
	b.settle()
	actions := []string{"cancel", "postpone", "delay", "block", "release", "log in", "reload"}
	for range rapid.IntRange(1, 4).Draw(rt, "actions") {
		b.acts[rapid.IntRange(1, 12).Draw(rt, "read")] = rapid.SampledFrom(actions).Draw(rt, "action")
	}
	dies := rapid.IntRange(0, 30).Draw(rt, "dies at the read")
	copied := b.watch(t, dies)
	grace := time.Duration(rapid.SampledFrom([]int{0, 5, 30}).Draw(rt, "grace")) * time.Second
	before := b.View().Desired.Mode
	b.submit(status.Request{Mode: policy.Compute, Origin: status.OriginOperator, By: "alice", UID: 1000, Grace: &grace})
	last := *b.settle().Last
	b.mu.Lock()
	broken, canceled, taken, guest := b.broken, b.canceled, b.taken, b.guest
	b.mu.Unlock()
	require.Empty(rt, broken)
	if canceled {
		require.Equal(rt, status.Canceled, last.Result, last.Cause)
		require.Equal(rt, before, b.View().Desired.Mode)
	}
	if guest { // who came after the last read is found by the step, which ends nobody else's session
		require.True(
			rt, slices.ContainsFunc(host.clone().now.Logind.Sessions, func(s observer.Session) bool { return s.ID == "9" }),
		)
		require.NotEqual(rt, status.Success, last.Result)
	} else {
		require.Equal(rt, taken, last.Result == status.Success, "%s: %s", last.Result, last.Cause)
	}
	require.NoFileExists(rt, filepath.Join(dir, "state", "transition.json"))
	if *copied != nil {
		b.stop()
		b.harness = startHarness(t, *copied, dir+".copy", thisBoot)
		v := b.settle()
		require.Contains(rt, []policy.Mode{policy.Desktop, policy.Compute}, v.Desired.Mode)
		require.True(rt, v.Last == nil || v.Last.Result != status.RollbackFailed, "%+v", v.Last)
		require.NoFileExists(rt, filepath.Join(dir+".copy", "state", "transition.json"))
	}
}

// watch has b act in each read, and copies the host and the files of the daemon in one of
// them, as a crash would leave them.
func (b *between) watch(t *testing.T, dies int) (copied **fakeHost) {
	copied = new(*fakeHost)
	b.host.mu.Lock()
	defer b.host.mu.Unlock()
	b.host.onRead = func() {
		b.act()
		b.mu.Lock()
		now := b.read == dies && *copied == nil
		b.mu.Unlock()
		if now && b.View().Running != nil {
			*copied = b.host.clone()
			(*copied).onRead, (*copied).fault = nil, nil
			copyFiles(t, b.dir, b.dir+".copy")
		}
	}
	b.host.fault = func(_ context.Context, when, what string) error {
		if when == "before" && slices.Contains(
			[]string{"apply stop-display-manager", "apply end-sessions", "apply isolate-compute"}, what,
		) {
			b.taking(what)
		}
		return nil
	}
	return copied
}

func copyFiles(t *testing.T, from, to string) {
	files, err := readFiles(from)
	require.NoError(t, err)
	for name, data := range files {
		path := filepath.Join(to, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}
}
