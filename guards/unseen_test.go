package guards

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func unseen(pid int, session string, uid uint32, more int) observer.Unseen {
	return observer.Unseen{
		Process: observer.Process{
			PID: pid, Command: "strange", UID: uid, Session: session,
		}, Slices: []string{"user.slice"}, Truncated: more,
	}
}

func TestTheRefusalNamesWhoWasNotLookedThrough(t *testing.T) {
	s := healthy()
	s.Processes.Unseen = []observer.Unseen{unseen(7, "5", 1001, 2), unseen(8, "", 1002, 0)}
	v := Evaluate(policy.Default(), s, Request{}, []policy.GuardID{policy.CheckGPUDisplayReleased})[0]
	assert.EqualValues(t, 21, v.Code)
	assert.Contains(
		t, v.Reason, "strange (pid 7, uid 1001) has too many open files to read, so it and 3 others may hold",
	)
	assert.Equal(t, []string{
		"strange (pid 7, uid 1001) has too many open files to read (and 2 more like it)",
		"strange (pid 8, uid 1002) has too many open files to read",
	}, v.Evidence)
	assert.Contains(t, v.Remedy, "end that process")
	for _, id := range []policy.GuardID{
		policy.CheckUserJobsSafe, policy.CheckAudioIdle, policy.CheckComputeCapabilityLocal,
		policy.CheckPersistencePathsReady,
	} {
		assert.True(
			t, Evaluate(policy.Default(), s, Request{Target: policy.Compute}, []policy.GuardID{id})[0].OK,
			"%s: it costs no other fact", id,
		)
	}
}

func TestAHiddenCommandLineMayBeAJob(t *testing.T) {
	hide := func(list ...observer.Unseen) func(*observer.Snapshot) {
		return func(s *observer.Snapshot) {
			s.Logind.Sessions = append(
				slices.Clone(s.Logind.Sessions),
				observer.Session{ID: "9", UID: 1000, Class: "user", Type: "tty", Remote: true},
			)
			s.Processes.Jobs.Unread = list
		}
	}
	play(t, policy.CheckUserJobsSafe, map[string]scene{
		"one": {
			code: 23, reason: "cannot read the command line of strange (pid 7, uid 1001)",
			change: hide(unseen(7, "5", 1001, 0)),
		},
		"one with its kind": {
			code: 23, reason: "(pid 7, uid 1001), and of 2 more", change: hide(unseen(7, "5", 1001, 2)),
		},
		"one's own over ssh": {change: hide(unseen(7, "9", 1000, 0))},
		"that and others":    {code: 23, reason: ", and of 1 more", change: hide(unseen(7, "9", 1000, 1))},
		"some that are not named": {
			code: 23, reason: "the command lines of 4 processes",
			change: func(s *observer.Snapshot) { s.Processes.Jobs.MoreUnread = 4 },
		},
		"one, and a job": {code: 13, reason: "make", change: func(s *observer.Snapshot) {
			hide(unseen(7, "5", 1001, 0))(s)
			s.Processes.Jobs.List = []observer.Job{{Process: observer.Process{PID: 9, Command: "make"}}}
		}},
	})
}
