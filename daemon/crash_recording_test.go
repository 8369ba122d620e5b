//go:build faultpoints

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/runner"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/fault"
)

// machine is what a daemon that died leaves: the host and the files.
type machine struct {
	host  *fakeHost
	files map[string][]byte
	when  string
}

// recording is what happened at the fault points of one run of a plan.
type recording struct {
	m      *matrix
	t      *testing.T
	where  string
	r      *harness
	dir    string
	host   *fakeHost
	breaks string // the point at which something breaks, as "name#occurrence"
	how    string // fail or hang
	every  int    // only one machine of so many is kept

	mu       sync.Mutex
	active   bool
	seen     map[string]int
	points   []string
	machines []machine
	broken   int // -1 until the fault
	sum      [2]uint64
}

var seed = maphash.MakeSeed()

// atPoint is called at every fault point.
func (f *recording) atPoint(ctx context.Context, point string) error {
	f.mu.Lock()
	if !f.active {
		f.mu.Unlock()
		return nil
	}
	f.seen[point]++
	key := fmt.Sprintf("%s#%d", point, f.seen[point])
	f.points = append(f.points, key)
	if (f.breaks == "" || f.broken >= 0) && pick(key+f.where, 0, max(f.every, 1)) == 0 {
		f.capture(key)
	}
	f.requireJournaled(point)
	breaks := f.breaks == key
	if breaks {
		f.broken = 0
	}
	f.mu.Unlock()
	switch {
	case !breaks:
		return nil
	case f.how == "fail":
		return errBroken
	case ctx.Done() != nil:
		<-ctx.Done()
		return ctx.Err()
	}
	time.Sleep(time.Minute) // a disk that hangs, and nothing bounds it
	return nil
}

// capture keeps the machine as a daemon that dies now leaves it, unless it is the one
// that was kept last.
func (f *recording) capture(key string) {
	files, err := readFiles(f.dir)
	require.NoError(f.t, err)
	var sum maphash.Hash
	sum.SetSeed(seed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_, _ = sum.WriteString(name)
		_, _ = sum.Write(files[name])
	}
	f.host.mu.Lock()
	now := [2]uint64{sum.Sum64(), uint64(f.host.changes)}
	f.host.mu.Unlock()
	if now == f.sum {
		return
	}
	f.sum = now
	f.machines = append(f.machines, machine{f.host.clone(), files, key})
}

// requireJournaled: whatever touches the host is in the journal before.
func (f *recording) requireJournaled(point string) {
	id, applies := strings.CutSuffix(point, ".apply")
	if !applies {
		return
	}
	data, err := os.ReadFile(filepath.Join(f.dir, "state", "transition.json"))
	var entry runner.Entry
	if err == nil {
		err = json.Unmarshal(data, &entry)
	}
	doing := slices.ContainsFunc(entry.Record.Steps, func(s status.Step) bool {
		return "step."+s.ID == id && s.Status == status.StepDoing
	})
	if err != nil || !doing {
		f.m.report(f.where, "applied without a journal entry", "%s (%v)", point, err)
	}
}

// record begins to record the fault points of the daemon whose directories are under dir.
func (f *recording) record() (stop func()) {
	f.active, f.seen, f.broken = true, map[string]int{}, -1
	remove := fault.Handle(f.dir, f.atPoint)
	f.host.fault = func(ctx context.Context, when, what string) error {
		if when != "amid" { // before and after are points of the runner
			return nil
		}
		return f.atPoint(ctx, "host."+what)
	}
	return func() {
		remove()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.active = false
	}
}

// run is a plan that was carried out, with whatever broke.
type run struct {
	*recording
	origin  effects
	from    status.View // before the transition
	id      uint64      // the transition's, 0 when it was refused
	request error
}

// carryOut runs a plan in which something breaks, or nothing. What is left is checked
// by the caller.
func (m *matrix) carryOut(t *testing.T, p plan, breaks, how string) *run {
	where := fmt.Sprintf("%s, %s %s %s", p.scenario.name, p.name, how, breaks)
	result := &run{recording: &recording{
		m: m, t: t, where: where, breaks: breaks, how: how, dir: m.dir(t), host: p.newHost(),
	}}
	synctest.Test(t, func(t *testing.T) {
		result.execute(t, p)
		if result.broken < 0 && breaks != "" {
			return
		}
		if breaks != "" {
			m.count(how)
			result.checkAfter(t, p)
		}
	})
	require.NoError(t, os.RemoveAll(result.dir))
	return result
}

func (f *run) execute(t *testing.T, p plan) {
	if p.boot {
		f.host.stop("desktop.target")
		f.host.now.Systemd.State = "starting"
	}
	r := p.start(t, f.host, f.dir, thisBoot)
	f.r = r
	if p.boot {
		synctest.Wait()
	} else {
		r.settle()
		for _, mode := range p.route[:len(p.route)-1] {
			record := r.to(p.request, mode)
			require.True(t, record.Result.Reached(), "%s %s", record.Result, record.Cause)
		}
		if p.degrade != nil {
			f.host.change(func() { p.degrade(f.host) })
			r.settle()
		}
	}
	f.from, f.origin = r.View(), f.host.effects()
	stop := f.record()
	defer stop()
	if p.boot {
		f.host.change(func() { f.host.now.Systemd.State = "running" })
		synctest.Wait()
		time.Sleep(time.Second)
	} else {
		request := p.request
		request.Mode = p.to()
		f.id, f.request = r.Request(t.Context(), request)
		if p.cancel && f.request == nil {
			synctest.Wait()
			err := r.Cancel(t.Context(), f.id, "bob")
			if err != nil && !errors.Is(err, status.ErrNotCancellable) && !errors.Is(err, status.ErrNoSuchTransition) {
				require.NoError(t, err)
			}
		}
	}
	r.settle()
}

// checkAfter checks a daemon that lived through a failure: what it publishes then, what
// one that is started after it publishes, and that the next request works.
func (f *run) checkAfter(t *testing.T, p plan) {
	r := f.r
	v := r.settle()
	j := checker{
		m: f.m, t: t, p: p, where: f.where, dir: f.dir, host: f.host, from: f.from, origin: f.origin,
		refused: f.request != nil,
	}
	if f.request == nil && f.id != 0 && (v.Last == nil || v.Last.ID != f.id) {
		j.report("a transition without an end", "%d: %+v", f.id, v.Last)
	}
	j.check(v, nil)
	r.stop()
	again := p.start(t, f.host, f.dir, thisBoot)
	defer again.stop()
	j.where += ", started again"
	w := again.settle()
	if v.Desired.Mode != w.Desired.Mode {
		j.report("desired is not what it was before the restart", "%s, was %s", w.Desired.Mode, v.Desired.Mode)
	}
	j.check(w, nil)
	j.nextRequest(again)
}

func (m *matrix) carryOutWithoutFault(t *testing.T, p plan) *run {
	clean := m.carryOut(t, p, "", "")
	require.Greater(t, len(clean.machines), 3, clean.where)
	return clean
}
