package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// harness is a controller that runs over a fake host.
type harness struct {
	*Controller
	t       *testing.T
	host    *fakeHost
	monitor *monitor.Monitor
	dir     string
	cancel  context.CancelFunc
	ended   sync.WaitGroup
	seen    *recorder
}

// recorder is a Listener that keeps the events.
type recorder struct {
	mu     sync.Mutex
	events []status.Event
	also   func(status.Event) // gets each before the controller goes on; nil for nobody
	views  func(status.View)  // sees each that is published; nil for nobody
}

func (r *recorder) Notify(v status.View, events []status.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.views != nil {
		r.views(v)
	}
	r.events = append(r.events, events...)
	for _, e := range events {
		if r.also != nil {
			r.also(e)
		}
	}
}

func (r *recorder) all() []status.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func testPolicy(dir string) policy.Policy {
	p := policy.Default()
	p.Transitions = policy.TrustAll
	p.Paths.Runtime, p.Paths.State = filepath.Join(dir, "run"), filepath.Join(dir, "state")
	p.Paths.RebuildLock, p.Paths.Issue = filepath.Join(dir, "rebuild.lock"), filepath.Join(dir, "issue.d")
	return p
}

const thisBoot = "boot-1"

// startHarness runs a controller over host with its directories under dir.
func startHarness(t *testing.T, host *fakeHost, dir, bootID string) *harness {
	t.Helper()
	r := startHarnessWith(t, host, testPolicy(dir), bootID)
	r.dir = dir
	return r
}

func startHarnessWith(t *testing.T, host *fakeHost, p policy.Policy, bootID string) *harness {
	t.Helper()
	r := newHarness(t, host, p, bootID)
	r.run()
	return r
}

// newHarness is startHarnessWith for one that does not run yet.
func newHarness(t *testing.T, host *fakeHost, p policy.Policy, bootID string) *harness {
	t.Helper()
	r, err := tryHarness(t, host, p, bootID)
	require.NoError(t, err)
	return r
}

// tryHarness is newHarness where the controller may refuse what its directories hold.
func tryHarness(t *testing.T, host *fakeHost, p policy.Policy, bootID string) (*harness, error) {
	t.Helper()
	host.policy = p
	host.now.Processes.Directories = slices.Clone(host.now.Processes.Directories)
	host.now.Processes.Directories[0].Path = p.Paths.State
	for _, d := range []string{p.Paths.Runtime, p.Paths.State} {
		require.NoError(t, os.MkdirAll(d, 0o755))
	}
	log := zap.New(zaptest.NewLogger(t, zaptest.Level(zapQuiet)).Core())
	sources := monitor.New(p.Timeouts.Look.D(), log,
		fakeSource{host, "systemd"}, fakeSource{host, "logind"}, fakeSource{host, "holders"}, fakeSource{host, "inference"},
		fakeSource{host, "procfs"}, fakeSource{host, "locks"}, fakeAudio{fakeSource{host, "audio"}}, fakeSource{host, "kept"})
	handlers := func(policy.Policy) map[plans.Kind]plans.StepHandler { return host.handlers() }
	controller, err := New(
		Config{
			Policy: policy.Document{Policy: p}, Monitor: sources, StepHandlers: handlers, Graph: host.graph, BootID: bootID,
			Boottime: host.boottime, Log: log,
		},
	)
	if err != nil {
		return nil, err
	}
	r := &harness{Controller: controller, t: t, host: host, monitor: sources, seen: &recorder{}}
	controller.Listen(r.seen)
	return r, nil
}

func (r *harness) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.cancel = cancel
	r.ended.Go(func() { r.monitor.Run(ctx) })
	r.ended.Go(func() { r.Controller.Run(ctx) })
}

func (r *harness) stop() {
	r.cancel()
	r.ended.Wait()
}

// settle waits until nothing runs and returns the view.
func (r *harness) settle() status.View {
	r.t.Helper()
	deadline := time.Now().Add(time.Hour)
	for time.Now().Before(deadline) {
		if r.View().Running == nil {
			v, err := r.Observe(r.t.Context())
			require.NoError(r.t, err)
			if v.Running == nil && v.Observation.State != observer.Boot {
				return v
			}
		}
		// In a synctest bubble this takes no time: it lets the other goroutines go on.
		time.Sleep(time.Second)
	}
	require.Fail(r.t, "a transition does not end", "%+v", r.View().Running)
	return status.View{}
}

func (r *harness) request(mode policy.Mode) status.Record {
	r.t.Helper()
	id, err := r.Request(
		r.t.Context(), status.Request{Mode: mode, Origin: status.OriginOperator, By: "test", UID: 1000, LeaveCompute: true},
	)
	require.NoError(r.t, err)
	v := r.settle()
	require.NotNil(r.t, v.Last)
	require.Equal(r.t, id, v.Last.ID, fmt.Sprintf("%+v", v.Last))
	return *v.Last
}

// zapQuiet keeps what the tests provoke on purpose out of their output.
const zapQuiet = zapcore.DPanicLevel

// onDesktop runs f in a bubble of fake time with a controller over a healthy desktop.
func onDesktop(t *testing.T, f func(*testing.T, *harness)) {
	t.Helper()
	t.Parallel()
	inBubble(t, f)
}

// inBubble is onDesktop for a test that does so more than once.
func inBubble(t *testing.T, f func(*testing.T, *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := startHarness(t, newFakeHost(testPolicy(dir)), dir, thisBoot)
		defer r.stop()
		require.Equal(t, observer.State("desktop"), r.settle().Observation.State)
		f(t, r)
	})
}

func word(t *testing.T, r *harness, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, "run", name))
	require.NoError(t, err)
	return strings.TrimSpace(string(data))
}
