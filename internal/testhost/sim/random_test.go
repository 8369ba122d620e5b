package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestNothingIsLeftHangingOnceFaultsAreHealed drives the machine at random: in
// the end every job that was announced is removed once, and no process lives in
// a unit that is down.
func TestNothingIsLeftHangingOnceFaultsAreHealed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, err := New(Config{Units: Workstation(), DefaultTarget: "desktop.target", Login: Seat(), Start: time.Unix(1e9, 0)})
		if err != nil {
			rt.Fatal(err)
		}
		jobs := map[uint32]int{}
		m.SetSink(func(e Event) {
			switch e := e.(type) {
			case JobNew:
				jobs[e.Job.ID]++
			case JobRemoved:
				if jobs[e.Job.ID]--; jobs[e.Job.ID] < 0 {
					rt.Fatalf("job %d was removed twice", e.Job.ID)
				}
			}
		})
		names := []string{
			"desktop.target", "compute.target", "graphical.target", "greetd.service", "vllm.service", "polkit.service",
			"studio-local-policy.service", "multi-user.target", "k3s.service", "fstrim.service", "user@1000.service",
		}
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			step(rt, m, rapid.SampledFrom(names).Draw(rt, "unit"))
		}
		heal(m, names)
		pass(m, time.Hour)
		check(rt, m, jobs)
	})
}

// step does one thing; that it may be refused is part of the game.
func step(rt *rapid.T, m *Model, name string) {
	sessions := m.Sessions()
	session := ""
	if len(sessions) > 0 {
		session = rapid.SampledFrom(sessions).Draw(rt, "session").ID
	}
	switch rapid.IntRange(0, 10).Draw(rt, "what") {
	case 0, 1, 2:
		job := rapid.SampledFrom([]string{"start", "stop", "restart"}).Draw(rt, "job")
		mode := rapid.SampledFrom([]string{"replace", "fail", "isolate", "ignore-dependencies"}).Draw(rt, "mode")
		_, _ = m.Enqueue(name, job, mode)
	case 3:
		_ = m.TerminateSession(session)
	case 4:
		_ = m.KillSession(session, "all", sigKill)
	case 5:
		_, _ = m.Login("alice")
	case 6:
		_ = m.Logout(session)
	case 7:
		_ = m.EditSession(session, func(s *Session) { s.IgnoresTerm = true })
	case 8:
		_ = m.SetFault(name, Fault{
			HangStart: rapid.Bool().Draw(rt, "hang start"), HangStop: rapid.Bool().Draw(rt, "hang stop"),
			FailStart: rapid.Bool().Draw(rt, "fail"),
		})
	case 9:
		_ = m.Crash(name, "exit-code")
	case 10:
		_ = m.Kill(name, sigKill)
	}
	pass(m, time.Duration(rapid.IntRange(0, 30).Draw(rt, "ms"))*time.Millisecond)
}

func heal(m *Model, names []string) {
	for _, name := range names {
		_ = m.SetFault(name, Fault{})
	}
	for _, s := range m.Sessions() {
		_ = m.EditSession(s.ID, func(s *Session) { s.IgnoresTerm = false })
		if s.Scope != "" {
			_ = m.SetFault(s.Scope, Fault{})
		}
	}
}

func check(rt *rapid.T, m *Model, jobs map[uint32]int) {
	if left := m.Jobs(); len(left) > 0 {
		rt.Fatalf("jobs are left: %v", left)
	}
	for id, n := range jobs {
		if n != 0 {
			rt.Fatalf("job %d was never removed", id)
		}
	}
	for _, u := range m.ListUnits() {
		if slices.Contains([]string{"activating", "deactivating"}, u.ActiveState) {
			rt.Fatalf("%s is %s for ever", u.Name, u.ActiveState)
		}
		if down(&unit{active: u.ActiveState}) && TypeOf(u.Name) != "slice" && len(m.members(u.cgroup())) > 0 {
			rt.Fatalf("%s is down and has processes: %s", u.Name, fmt.Sprint(m.members(u.cgroup())))
		}
	}
	seat := 0
	for _, s := range m.Sessions() {
		if s.Seat == "seat0" && s.Class == "greeter" {
			seat++
		}
	}
	if seat > 1 {
		rt.Fatalf("%d greeters share the seat", seat)
	}
}
