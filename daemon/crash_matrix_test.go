//go:build faultpoints

package daemon

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/policy"
)

// TestCrashMatrix: for every plan and every fault point that the plan meets, the
// daemon dies there, or what is done there fails, or hangs. A machine on which the
// daemon died is started again, on the same boot and on another, and dies again
// while it recovers. What is then on the host, on disk and published is held against
// an independent reading of the host (checker).
//
// A daemon that dies is simulated by a copy: the host and the disk are copied at the
// point, the next daemon gets the copies, and what the first one does afterwards
// is discarded.
func TestCrashMatrix(t *testing.T) {
	m := &matrix{base: t.TempDir(), kinds: map[string]int{}, reports: map[string][]string{}}
	t.Run("plans", func(t *testing.T) {
		for _, w := range scenarios() {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				w.clean = m.cleanModes(t, w)
				for _, p := range w.plans() {
					t.Run(p.name, func(t *testing.T) {
						t.Parallel()
						m.try(t, p)
					})
				}
			})
		}
	})
	fmt.Printf("%d cases, %d violations\n", m.cases, m.violations)
	t.Logf("%v", m.kinds)
	m.printReports(t)
	require.GreaterOrEqual(t, m.cases, 2000, "what this test is for")
}

// matrix counts the cases and collects the violations.
type matrix struct {
	base string

	mu                sync.Mutex
	cases, violations int
	kinds             map[string]int
	reports           map[string][]string // of each kind of violation, all of them
	dirs              int
}

func (m *matrix) count(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cases++
	m.kinds[kind]++
}

// report notes a violation. It does not end the case, or the plan.
func (m *matrix) report(where, kind, format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.violations++
	m.reports[kind] = append(m.reports[kind], where+": "+fmt.Sprintf(format, args...))
}

// printReports prints the first violations of each kind: one fault in the daemon shows in
// hundreds of cases.
func (m *matrix) printReports(t *testing.T) {
	for kind, all := range m.reports {
		for _, text := range all[:min(len(all), 3)] {
			t.Errorf("%s (one of %d): %s", kind, len(all), text)
		}
	}
}

func (m *matrix) dir(t *testing.T) string {
	m.mu.Lock()
	m.dirs++
	dir := filepath.Join(m.base, strconv.Itoa(m.dirs))
	m.mu.Unlock()
	for _, d := range []string{"run", "state"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	return dir
}

// cleanModes is what each mode leaves, reached without a fault.
func (m *matrix) cleanModes(t *testing.T, w *scenario) map[policy.Mode]effects {
	clean := map[policy.Mode]effects{}
	synctest.Test(t, func(t *testing.T) {
		r := w.start(t, w.newHost(), m.dir(t), thisBoot)
		defer r.stop()
		r.settle()
		for _, mode := range []policy.Mode{"desktop", "studio-local", "desktop", "compute", "desktop"} {
			record := r.to(w.request, mode)
			require.True(t, record.Result.Reached(), "%s %s", record.Result, record.Cause)
			clean[mode] = r.host.effects()
		}
	})
	return clean
}

// to makes a request for a mode, and waits for the end.
func (r *harness) to(request status.Request, mode policy.Mode) status.Record {
	request.Mode = mode
	id, err := r.Request(r.t.Context(), request)
	require.NoError(r.t, err)
	last := r.settle().Last
	require.Equal(r.t, id, last.ID)
	return *last
}

// try tries everything with one plan.
func (m *matrix) try(t *testing.T, p plan) {
	clean := m.carryOutWithoutFault(t, p)
	for _, at := range clean.machines {
		for _, boot := range []string{thisBoot, "boot-2"} {
			if p.samples(at.when, boot) {
				m.restart(t, p, clean, at, boot)
			}
		}
	}
	for i, point := range clean.points {
		for _, how := range []string{"fail", "hang"} {
			if !chosen(point, i, how) || !p.samples(point, how) {
				continue
			}
			broken := m.carryOut(t, p, point, how)
			if broken.broken < 0 {
				continue
			}
			// The daemon dies on its way back, too.
			left := broken.machines
			for k := range 2 {
				if n := len(left); n > k {
					m.restart(t, p, broken, left[pick(point+how, n/2*k, max(n/2, 1))%n], thisBoot)
				}
			}
		}
	}
}

// everything tries the whole matrix, tens of thousands of cases. Without it a
// sample is tried, the same each time, most of it of the six plans between modes.
var everything = os.Getenv("DUBNIUM_CRASHES") == "all"

func (p plan) samples(point, what string) bool {
	rate := 60
	if p.scenario.name == "as it comes" && p.degrade == nil {
		rate = 8
	}
	if what == "boot-2" {
		rate *= 4
	}
	return everything || pick(p.scenario.name+p.name+point+what, 0, rate) == 0
}

// chosen reports whether a point is tried. Every step fails and hangs, and every write fails. A
// file hangs in a few cases only, since each takes the same path.
func chosen(point string, i int, how string) bool {
	if how == "hang" && strings.HasPrefix(point, "events.jsonl.") {
		// The log is locked meanwhile, and fake time stands still while anybody waits for a
		// lock. The watchdog ends a daemon that hangs there: it is one that dies.
		return false
	}
	return strings.HasPrefix(point, "step.") || strings.HasPrefix(point, "host.") && i%2 == 0 || how == "fail" &&
		i%2 == 0 || i%8 == 0
}

// pick returns one of n numbers, from first on, by a hash of word.
func pick(word string, first, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(word))
	return first + int(h.Sum32())%n
}

// restart starts a daemon on a machine on which one died, checks what it makes of
// it, and makes it die again on the way.
func (m *matrix) restart(t *testing.T, p plan, before *run, at machine, boot string) {
	m.count("die, " + boot)
	recovered := m.recovery(t, p, before, at, boot, at.when)
	for k := range 2 {
		if n := len(recovered.machines); k == 0 && n > 0 || k < n && len(at.when)%3 == 0 {
			twice := recovered.machines[pick(at.when, k, n)%n]
			m.count("die twice, " + boot)
			m.recovery(t, p, before, twice, boot, at.when+" and "+twice.when)
		}
	}
}

// recovery is one start of a daemon on a machine.
func (m *matrix) recovery(t *testing.T, p plan, before *run, at machine, boot, when string) *recording {
	dir, host := m.dir(t), at.host.clone()
	for name, data := range at.files {
		if boot == thisBoot || strings.HasPrefix(name, "state/") { // the other is lost with the boot
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
	}
	if boot != thisBoot && !strings.Contains(when, " and ") {
		host = p.newHost()
	}
	recovered := &recording{
		m: m, t: t, where: fmt.Sprintf("%s, died at %s, then %s", before.where, when, boot), dir: dir, host: host, every: 8,
	}
	synctest.Test(t, func(t *testing.T) {
		j := checker{m: m, t: t, p: p, where: recovered.where, dir: dir, host: host, from: before.from, origin: before.origin}
		if boot != thisBoot {
			j.origin, j.rebooted = p.newHost().effects(), true
		}
		stop := recovered.record()
		r := p.start(t, host, dir, boot)
		defer r.stop()
		v := r.settle()
		stop()
		j.check(v, at.files)
		if j.rebooted && len(host.appliedSteps()) > 0 {
			j.report("another boot's journal is acted upon", "%v", host.appliedSteps())
		}
		j.nextRequest(r)
	})
	require.NoError(t, os.RemoveAll(dir))
	return recovered
}
