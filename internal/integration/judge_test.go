//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/policy"
)

// judge prints everything that was measured, and holds it against the marks.
func (s *siege) judge(h *hostile, long time.Duration) {
	s.t.Helper()
	h.report(s.t)
	s.reportTimes()
	s.t.Logf("root's request was refused as busy %d times", s.busy)
	for _, what := range s.odd {
		s.t.Error(what)
	}
	written := s.log.written() - s.before.log
	s.t.Logf("the log grew by %d bytes, %d a second", written, written/seconds(long))
	assert.Less(s.t, written/seconds(long), markLog, "bytes of log a second")
	grown := sizeOf(s.t, s.w.Policy.Paths.State) - s.before.state
	s.t.Logf("the state directory grew by %d bytes", grown)
	assert.Less(s.t, grown, int64(markState+markStateBy*seconds(long)), "bytes in the state directory")
	if s.dead {
		s.t.FailNow()
	}
	s.judgeTimes()
	peak := s.peak()
	s.t.Logf("%d KiB resident before, %d KiB at the most", s.before.resident, peak)
	assert.Less(s.t, peak, markPeak, "the most that was resident, in KiB")
	s.judgeFacts()
	s.judgeRecord()
	s.judgeWhatIsLeft()
}

func seconds(long time.Duration) int { return max(1, int(long/time.Second)) }

// turns is how often modectl waits for the bus: twice to authenticate, for its name, to
// reach the daemon, which asks whose the connection is, and to be reached.
const turns = 6

// judgeTimes holds what root waited for, but for the times at which nobody could talk
// to the bus, against the marks. A program that asks nobody, and one that only asks the
// bus, tell what the machine and the bus have in it.
func (s *siege) judgeTimes() {
	s.t.Helper()
	_, status, _ := quantiles(s.apart(rootStatus))
	_, program, _ := quantiles(s.apart(bareProgram))
	_, bus, _ := quantiles(s.apart(bareBus))
	_, _, history := quantiles(s.apart(rootHistory))
	others := program + turns*bus
	assert.Less(s.t, status, markStatus+others, "99 of 100 times of modectl status")
	assert.Less(s.t, history, markHistory+others, "each time of modectl history")
}

// peak is the most memory that the daemon ever used, in KiB.
func (s *siege) peak() (kib int) {
	s.t.Helper()
	for line := range bytes.Lines([]byte(readFile(s.t, fmt.Sprintf("/proc/%d/status", s.w.DaemonPID())))) {
		if n, err := fmt.Sscanf(string(line), "VmHWM: %d kB", &kib); n == 1 && err == nil {
			return kib
		}
	}
	require.FailNow(s.t, "the kernel does not say how much memory the daemon used")
	return 0
}

// judgeFacts requires that root's request was the last that changed the host.
func (s *siege) judgeFacts() {
	s.t.Helper()
	assert.Empty(s.t, hostOf(s.w).breaches(policy.Compute), "root has asked for compute")
	assert.Equal(s.t, string(policy.Compute), requireHonest(s.t, s.w))
}

// judgeRecord requires that what was on record still is, and root's request too.
func (s *siege) judgeRecord() {
	s.t.Helper()
	now := s.outcomes()
	s.t.Logf("%d transitions on record before, %d after", len(s.before.outcomes), len(now))
	for id, record := range s.before.outcomes {
		assert.Equal(s.t, record, now[id], "transition %v is on record as before", id)
		_, err := s.modectl(bounded(s.t), "show", fmt.Sprint(id))
		assert.NoError(s.t, err)
	}
	assert.True(s.t, slices.ContainsFunc(slices.Collect(maps.Values(now)), func(record object) bool {
		return record["to"] == string(policy.Compute) && record["result"] == "success" && record["uid"] == 0.0
	}), "root's transition is on record")
}

// settling bounds the time in which the daemon gives memory back: the runtime collects
// every two minutes if nothing else makes it, and then returns what is free bit by bit.
const settling = 3 * time.Minute

// judgeWhatIsLeft requires that the daemon works as before, in as much memory and with
// as many files.
func (s *siege) judgeWhatIsLeft() {
	s.t.Helper()
	reach(s.t, s.w, policy.StudioLocal)
	least := resident(s.t, s.w)
	assert.Eventually(s.t, func() bool {
		assert.NoError(s.t, s.refresh(bounded(s.t))) // a look makes the runtime collect sooner
		least = min(least, resident(s.t, s.w))
		return least <= s.before.resident+markLeft
	}, settling, 100*time.Millisecond, "the memory is given back")
	files := openFiles(s.t, s.w.DaemonPID())
	assert.Eventually(s.t, func() bool {
		files = openFiles(s.t, s.w.DaemonPID())
		return files <= s.before.descriptors
	}, patience, 100*time.Millisecond, "the files are closed")
	s.t.Logf(
		"afterwards %d KiB resident, %d before; %d files open, %d before", least, s.before.resident, files,
		s.before.descriptors,
	)
}
