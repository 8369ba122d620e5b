package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/assess"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/unitgraph"
	"github.com/dubnium/dubnium/policy"
)

// previewing runs a test on a desktop that has settled.
func previewing(t *testing.T, change func(*policy.Policy), test func(t *testing.T, r *harness)) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		p := testPolicy(dir)
		if change != nil {
			change(&p)
		}
		host := newFakeHost(p)
		host.extraUnits = []string{"backup.service"}
		r := startHarnessWith(t, host, p, thisBoot)
		r.dir = dir
		defer r.stop()
		r.settle()
		test(t, r)
	})
}

func (r *harness) preview(mode policy.Mode) status.Preview {
	r.t.Helper()
	p, _, err := r.Plan(r.t.Context(), status.Request{Mode: mode, UID: 1000})
	require.NoError(r.t, err)
	return p
}

// agreeTo requests exactly the plan of a fingerprint.
func (r *harness) agreeTo(mode policy.Mode, fingerprint string) (uint64, error) {
	return r.Request(
		r.t.Context(),
		status.Request{
			Mode: mode, Origin: status.OriginOperator, By: "test", UID: 1000, LeaveCompute: true, Plan: fingerprint,
		},
	)
}

// traces are the daemon's files with what is in them and when they were written.
func (r *harness) traces() map[string]string {
	r.t.Helper()
	found := map[string]string{}
	require.NoError(r.t, filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		found[path] = info.ModTime().Format(time.RFC3339Nano) + string(data)
		return err
	}))
	return found
}

func stepIDs(p status.Preview) []string {
	var ids []string
	for _, s := range p.Steps {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestPreview(t *testing.T) {
	previewing(t, nil, func(t *testing.T, r *harness) {
		files, events, view := r.traces(), r.seen.all(), r.View()
		p := r.preview(policy.Compute)
		require.Equal(t, files, r.traces())
		require.Equal(t, events, r.seen.all())
		require.Empty(t, r.applied())
		require.Equal(t, view.Desired, r.View().Desired)
		require.Nil(t, r.View().Last)

		require.Equal(t, observer.Of(policy.Desktop), p.From)
		require.Equal(t, []string{"2"}, []string{p.Sessions[0].ID})
		require.Equal(t, sway, p.Holders[0].PID)
		require.Contains(
			t, p.Stops, unitgraph.StoppedUnit{Unit: "backup.service", Cause: unitgraph.CauseNotWanted, By: "compute.target"},
		)
		require.Empty(t, guards.Blocking(p.Guards))
		require.Zero(t, p.Expected)
		require.Equal(t, "terminate 1 session, kill after 20s", p.Steps[1].Does)
		require.Equal(t, 30*time.Second, p.Steps[1].Timeout)

		id, err := r.agreeTo(policy.Compute, p.Fingerprint)
		require.NoError(t, err)
		record := *r.settle().Last
		require.Equal(t, id, record.ID)
		require.Equal(t, status.Success, record.Result)
		require.Equal(t, p.Guards, record.Guards)
		var done []string
		for _, s := range record.Steps {
			done = append(done, s.ID)
		}
		require.Equal(t, stepIDs(p), done)

		there := r.preview(policy.Compute)
		require.True(t, there.Reached)
		require.Empty(t, there.Steps)
		require.Empty(t, there.Guards)
		_, err = r.agreeTo(policy.Compute, there.Fingerprint)
		require.NoError(t, err)
		require.Equal(t, status.Noop, r.settle().Last.Result)
	})
}

// TestStalePlan: for each thing that somebody
// agreed to and that is not so any more.
func TestStalePlan(t *testing.T) {
	changes := map[string]func(*fakeHost){
		"somebody else logs in": func(h *fakeHost) {
			h.now.Logind.Sessions = append(
				h.now.Logind.Sessions, observer.Session{ID: "7", UID: 1001, User: "bob", Class: "user", Type: "x11", Seat: "seat0"},
			)
		},
		"work begins": func(h *fakeHost) {
			h.now.Processes.Jobs.List = []observer.Job{{Process: observer.Process{PID: 7, Command: "make"}}}
		},
		"one unit more would stop": func(h *fakeHost) { h.extraUnits = append(h.extraUnits, "upload.service") },
		"the overlay comes":        func(h *fakeHost) { h.set("audio-priority.service", "active") },
		"the units cannot be read": func(h *fakeHost) { h.graphErr = errors.New("no answer") },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			previewing(t, nil, func(t *testing.T, r *harness) {
				fingerprint := r.preview(policy.Compute).Fingerprint
				r.host.change(func() { change(r.host) })
				r.settle()
				files, desired, events := r.traces(), r.View().Desired, len(r.seen.all())
				_, err := r.agreeTo(policy.Compute, fingerprint)
				require.ErrorIs(t, err, status.ErrStalePlan)
				require.ErrorContains(t, err, "to compute it would be ")
				require.Equal(t, files, r.traces())
				require.Equal(t, desired, r.settle().Desired)
				require.Len(t, r.seen.all(), events)
				require.Empty(t, r.applied())
				_, err = r.agreeTo(policy.Compute, r.preview(policy.Compute).Fingerprint)
				require.NoError(t, err, "what is previewed now is what is done")
				r.settle()
			})
		})
	}
}

// TestPlanNotStale: a minute has passed, people
// have come over ssh, programs have started, and one may end others' sessions now.
func TestPlanNotStale(t *testing.T) {
	previewing(t, nil, func(t *testing.T, r *harness) {
		fingerprint := r.preview(policy.Compute).Fingerprint
		time.Sleep(time.Minute)
		r.host.change(func() {
			r.host.now.Logind.Sessions = append(slices.Clone(r.host.now.Logind.Sessions),
				observer.Session{ID: "9", UID: 1001, User: "bob", Class: "user", Type: "tty", Remote: true})
			r.host.now.Processes.Holders = append(slices.Clone(r.host.now.Processes.Holders),
				observer.Holder{GPU: displayGPU, PID: 901, Command: "Xwayland", Unit: "session-2.scope", Session: "2"})
			*r.host.now.Procfs.LoadPerCore.Value = 0.1
		})
		_, err := r.Request(t.Context(), status.Request{Mode: policy.Compute, UID: 1000, EndOthers: true, Plan: fingerprint})
		require.NoError(t, err)
		require.Equal(t, status.Success, r.settle().Last.Result)
	})
}

// TestPlanBlocked: a request for a plan that was blocked is refused.
func TestPlanBlocked(t *testing.T) {
	previewing(t, nil, func(t *testing.T, r *harness) {
		r.host.change(func() {
			r.host.now.Logind.Sessions = append(
				r.host.now.Logind.Sessions,
				observer.Session{ID: "7", UID: 1001, User: "bob", Class: "user", Type: "x11", Seat: "seat0"},
			)
		})
		p := r.preview(policy.Compute)
		require.Equal(t, policy.CheckGraphicalSessionTerminable, guards.Blocking(p.Guards)[0].Guard)
		_, err := r.agreeTo(policy.Compute, p.Fingerprint)
		require.NoError(t, err)
		require.Equal(t, status.Blocked, r.settle().Last.Result)
		_, err = r.Request(t.Context(), status.Request{Mode: policy.Compute, UID: 1000, EndOthers: true, Plan: p.Fingerprint})
		require.NoError(t, err, "the right to end others' sessions is not the plan's")
		require.Equal(t, status.Success, r.settle().Last.Result)
	})
}

func TestMustSurvive(t *testing.T) {
	survive := func(p *policy.Policy) { p.MustSurvive = []string{"backup.service"} }
	previewing(t, survive, func(t *testing.T, r *harness) {
		record := r.request(policy.Compute)
		require.Equal(t, status.Blocked, record.Result)
		require.Equal(t, policy.Code(18), guards.Blocking(record.Guards)[0].Code)
		require.Contains(t, record.Cause, "backup.service would stop")
		require.Empty(t, r.applied())
		verdicts, _, err := r.Judge(
			t.Context(), status.Request{Mode: policy.Compute, UID: 1000}, []policy.GuardID{policy.CheckTargetReachable},
		)
		require.NoError(t, err)
		require.Equal(t, guards.Blocking(record.Guards), verdicts)

		require.Equal(t, status.Success, r.request(policy.StudioLocal).Result, "nothing of it is in the way of the overlay")
		r.host.change(func() { r.host.extraUnits = nil })
		require.Equal(t, status.Success, r.request(policy.Compute).Result)
	})
}

func TestUnitsUnreadable(t *testing.T) {
	previewing(t, nil, func(t *testing.T, r *harness) {
		r.host.change(func() { r.host.graphErr = errors.New("no answer") })
		record := r.request(policy.Compute)
		require.Equal(t, status.Blocked, record.Result)
		require.Equal(t, policy.Code(28), guards.Blocking(record.Guards)[0].Code)
		require.Contains(t, record.Cause, "the units could not be read: no answer")
		require.Equal(t, "the units could not be read: no answer", r.preview(policy.Compute).UnitsReason)
		require.Equal(t, status.Success, r.request(policy.StudioLocal).Result, "the overlay touches its own units alone")
		require.Equal(t, status.Success, r.request(policy.Desktop).Result)
	})
}

// TestUnitsReadOnce: its units would be waited for as long
// again.
func TestUnitsReadOnce(t *testing.T) {
	previewing(t, nil, func(t *testing.T, r *harness) {
		s := r.View().Snapshot
		s.Systemd.Reason = "no answer"
		read := assess.GraphReader(func(context.Context, string) (unitgraph.Graph, error) {
			t.Error("the units were read")
			return nil, nil
		})
		f := read.Assess(t.Context(), r.View().Policy.Policy, s, status.Request{Mode: policy.Compute}, nil)
		require.Equal(t, "no answer", f.Impact.Reason)
		require.False(t, f.Impact.Known())
	})
}

func TestQueuedJob(t *testing.T) {
	previewing(t, nil, func(t *testing.T, r *harness) {
		r.host.change(func() { r.host.jobs = map[string]string{"display-manager.service": "restart"} })
		record := r.request(policy.Compute)
		require.Equal(t, policy.CheckGraphicalSessionTerminable, guards.Blocking(record.Guards)[0].Guard)
		require.Empty(t, r.applied())
	})
}

// TestNoPlanDuringTransition: and a request for one plan joins nothing.
func TestNoPlanDuringTransition(t *testing.T) {
	previewing(t, nil, func(t *testing.T, r *harness) {
		fingerprint := r.preview(policy.Compute).Fingerprint
		held := make(chan struct{})
		r.host.fault = func(_ context.Context, when, what string) error {
			if when == "before" && what == "apply stop-display-manager" {
				<-held
			}
			return nil
		}
		_, err := r.agreeTo(policy.Compute, fingerprint)
		require.NoError(t, err)
		synctest.Wait()
		_, err = r.agreeTo(policy.Compute, fingerprint)
		require.ErrorIs(t, err, status.ErrBusy)
		_, _, err = r.Plan(t.Context(), status.Request{Mode: policy.Desktop})
		require.ErrorIs(t, err, status.ErrBusy)
		close(held)
		require.Equal(t, status.Success, r.settle().Last.Result)
	})
}

// TestPinnedPlan: another policy makes it stale, and
// so does a transition that has ended since.
func TestPinnedPlan(t *testing.T) {
	accept := func(r *harness, a *assess.PinnedPlan) (err error) {
		require.NoError(r.t, r.call(r.t.Context(), func() {
			_, err = r.accept(status.Request{Mode: policy.Compute, Plan: "x"}, a)
		}))
		return err
	}
	pin := func(r *harness, wanted status.Request) (*assess.PinnedPlan, error) {
		view, err := r.observeIdle(r.t.Context())
		require.NoError(r.t, err)
		return r.deps.Graph.Pin(r.t.Context(), view, wanted)
	}
	previewing(t, nil, func(t *testing.T, r *harness) {
		wanted := status.Request{Mode: policy.Compute, UID: 1000, Plan: r.preview(policy.Compute).Fingerprint}
		a, err := pin(r, wanted)
		require.NoError(t, err)
		next := r.View().Policy
		next.Timeouts.Verify++
		_, err = r.Reload(t.Context(), next)
		require.NoError(t, err)
		require.ErrorIs(t, accept(r, a), status.ErrStalePlan)

		a, err = pin(r, wanted)
		require.NoError(t, err, "the bound of what no step does")
		require.Equal(t, status.Noop, r.request(policy.Desktop).Result)
		require.ErrorIs(t, accept(r, a), status.ErrStalePlan)
		require.Equal(t, policy.Desktop, r.View().Desired.Mode)
		a, err = pin(r, wanted)
		require.NoError(t, err)
		require.NoError(t, accept(r, a))
		r.settle()
	})
}

func TestExpectedDurations(t *testing.T) {
	at := time.Unix(1, 0)
	record := func(from, to string, result status.Result, took time.Duration) status.Record {
		return status.Record{
			From: observer.State(from), To: policy.Mode(to), Result: result, Started: at, Finished: at.Add(took),
		}
	}
	records := []status.Record{
		record(
			"desktop", "compute", status.Success, 30*time.Second,
		), record("degraded-desktop", "compute", status.Success, 50*time.Second),
		record(
			"desktop", "compute", status.Success, 40*time.Second,
		), record("desktop", "compute", status.Blocked, time.Second),
		record(
			"desktop", "compute", status.RolledBack, time.Hour,
		), record("studio-local", "compute", status.Success, time.Hour),
		record(
			"desktop", "studio-local", status.Success, time.Second,
		), record("desktop", "compute", status.Success, -time.Second),
	}
	require.Equal(
		t, status.Expectation{Count: 3, Median: 40 * time.Second, Longest: 50 * time.Second},
		assess.Expected(records, "desktop", policy.Compute),
	)
	require.Zero(t, assess.Expected(records, "compute", policy.Desktop))

	previewing(t, nil, func(t *testing.T, r *harness) {
		require.Equal(t, status.Success, r.request(policy.StudioLocal).Result)
		require.Equal(t, status.Success, r.request(policy.Desktop).Result)
		require.Equal(t, 1, r.preview(policy.StudioLocal).Expected.Count)
	})
}

// TestPinnedPlanAfterWait: one that is another by then is
// canceled, and desired is what it was; one that only stops less is carried out.
func TestPinnedPlanAfterWait(t *testing.T) {
	grace := time.Minute
	for name, c := range map[string]struct {
		change func(*fakeHost)
		result status.Result
	}{
		"nothing changes":  {func(*fakeHost) {}, status.Success},
		"a unit has ended": {func(h *fakeHost) { h.extraUnits = nil }, status.Success},
		"a unit has begun": {func(h *fakeHost) { h.extraUnits = append(h.extraUnits, "upload.service") }, status.Canceled},
		"somebody logs in": {func(h *fakeHost) {
			h.now.Logind.Sessions = append(
				h.now.Logind.Sessions,
				observer.Session{ID: "7", UID: 1000, User: "alice", Class: "user", Type: "x11", Seat: "seat0"},
			)
		}, status.Canceled},
		"music begins to be somebody's work": {func(h *fakeHost) {
			h.now.Processes.Jobs.List = []observer.Job{{Process: observer.Process{PID: 7, Command: "make"}}}
		}, status.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			previewing(t, nil, func(t *testing.T, r *harness) {
				before := r.View().Desired
				plan := r.preview(policy.Compute).Fingerprint
				r.submit(status.Request{Mode: policy.Compute, UID: 1000, Grace: &grace, Plan: plan})
				require.Equal(t, status.PhaseAnnounced, r.View().Running.Phase)
				r.host.change(func() { c.change(r.host) })
				last := r.settle().Last
				require.Equal(t, c.result, last.Result, last.Cause)
				if c.result == status.Canceled {
					require.Contains(t, last.Cause, "not what was previewed any more")
					require.Equal(t, before, r.View().Desired)
					require.Empty(t, r.applied())
				}
			})
		})
	}
}
