package guards

import (
	"maps"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// blanks take away what a guard needs to know, one thing at a time.
var blanks = map[policy.GuardID][]func(*observer.Snapshot){
	policy.CheckAudioIdle: {
		noLogind, noHolders, func(s *observer.Snapshot) { s.Processes.SoundComplete = false },
		func(s *observer.Snapshot) { // with a graphical session
			s.Logind.Sessions[0].Class, s.Audio.Servers = "user", nil
		},
	},
	policy.CheckGPUDisplayReleased: {noHolders},
	policy.CheckCPULoadSafe: {
		noProcfs, func(s *observer.Snapshot) { s.Procfs.LoadPerCore.Value = nil },
		func(s *observer.Snapshot) { s.Procfs.PressureCPU.Value = nil },
		func(s *observer.Snapshot) { s.Procfs.PressureIO.Value = nil },
	},
	policy.CheckUserJobsSafe: {noLogind, noHolders, func(s *observer.Snapshot) { s.Processes.Jobs.Complete = false }},
	policy.CheckMemoryHeadroom: {
		noProcfs, func(s *observer.Snapshot) { s.Procfs.MemAvailable.Value = nil },
		func(s *observer.Snapshot) { s.Procfs.PressureMemory.Value = nil },
	},
	policy.CheckVLLMDrainable: {
		noSystemd, func(s *observer.Snapshot) { delete(s.Systemd.Units, "vllm.service") },
		serving(
			func(i *observer.Inference) { i.Reason = "no answer" },
		), serving(func(i *observer.Inference) { i.Running = nil }),
		serving(func(i *observer.Inference) { i.Waiting = nil }),
	},
	policy.CheckGraphicalSessionPresent:    {noLogind},
	policy.CheckGraphicalSessionAbsent:     {noLogind},
	policy.CheckGraphicalSessionTerminable: {noLogind},
	policy.CheckTargetReachable: {
		noSystemd, func(s *observer.Snapshot) { delete(s.Systemd.Units, "compute.target") },
	},
	policy.CheckPersistencePathsReady: {
		noHolders, func(s *observer.Snapshot) { s.Processes.Directories = nil },
		func(s *observer.Snapshot) {
			s.Processes.Directories = []observer.Directory{{Path: "/var/lib/mode-controller", Reason: "no answer"}}
		},
	},
	policy.CheckStudioCapabilityLocal: {
		noSystemd, func(s *observer.Snapshot) { delete(s.Systemd.Units, "audio-priority.service") },
	},
	policy.CheckComputeCapabilityLocal: {noHolders},
}

func noSystemd(s *observer.Snapshot) { s.Systemd.Reason = "no answer" }
func noLogind(s *observer.Snapshot)  { s.Logind.Reading = observer.Reading{} }
func noHolders(s *observer.Snapshot) { s.Processes.Reason = "no answer" }
func noProcfs(s *observer.Snapshot)  { s.Procfs.Reason = "no answer" }

func serving(change func(*observer.Inference)) func(*observer.Snapshot) {
	return func(s *observer.Snapshot) {
		u := s.Systemd.Units["vllm.service"]
		u.ActiveState, u.SubState = "active", "running"
		s.Systemd.Units["vllm.service"] = u
		s.Inference.NotListening = false
		change(&s.Inference)
	}
}

// genHost is a desktop with anything about it that guards look at.
func genHost(t *rapid.T) observer.Snapshot {
	s := healthy()
	number := func(label string, most float64) observer.Measure {
		return measure(rapid.Float64Range(0, most).Draw(t, label))
	}
	s.Procfs.LoadPerCore = number("load", 8)
	s.Procfs.PressureCPU, s.Procfs.PressureIO = number("cpu", 100), number("io", 100)
	s.Procfs.PressureMemory, s.Procfs.MemAvailable = number("pressure", 100), number("memory", 1<<31)
	s.Processes.Directories[0].Free = number("free", 1<<27)
	if rapid.Bool().Draw(t, "job") {
		s.Processes.Jobs.List = []observer.Job{
			{Process: observer.Process{PID: 9, Command: "make", UID: 1000}, Remote: rapid.Bool().Draw(t, "remote")},
		}
	}
	if rapid.Bool().Draw(t, "stream") {
		silent(&s).Streams = []observer.AudioStream{{
			Direction: observer.Playback,
			Corked:    rapid.Bool().Draw(t, "corked"),
		}}
	}
	for i := range s.Logind.Sessions {
		s.Logind.Sessions[i].Class = rapid.SampledFrom(
			[]string{"user", "greeter", "background", "user-quantum"},
		).Draw(t, "class")
	}
	for name, u := range maps.Clone(s.Systemd.Units) {
		u.LoadState = rapid.SampledFrom([]string{"loaded", "loaded", "masked", "not-found"}).Draw(t, "load of "+name)
		u.ActiveState = rapid.SampledFrom(
			[]string{"active", "inactive", "activating", "deactivating", "failed"},
		).Draw(t, "state of "+name)
		s.Systemd.Units[name] = u
	}
	return s
}

// TestWhatIsNotKnownNeverPasses: nor is it ever anything but a pass, the guard's
// block or its unknown.
func TestWhatIsNotKnownNeverPasses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Default()
		p.Transitions, p.GPU.AI = policy.TrustAll, []string{"0000:01:00.0"}
		spec := rapid.SampledFrom(policy.Guards()).Draw(t, "guard")
		r := Request{
			Target: policy.Compute, UID: rapid.SampledFrom([]uint32{0, 1000, 1001}).Draw(t, "uid"),
			Impact: read,
		}
		s := genHost(t)
		before := Evaluate(p, s, r, []policy.GuardID{spec.ID})[0]
		require.Contains(t, []policy.Code{policy.Pass, spec.Block, spec.Unknown()}, before.Code)
		require.Equal(t, before.OK, before.Remedy == "")
		if needs := blanks[spec.ID]; len(needs) > 0 {
			needs[rapid.IntRange(0, len(needs)-1).Draw(t, "blank")](&s)
			after := Evaluate(p, s, r, []policy.GuardID{spec.ID})[0]
			require.False(t, after.OK, after.Reason)
			require.Contains(t, []policy.Code{spec.Block, spec.Unknown()}, after.Code)
		}
	})
	for _, g := range policy.Guards() {
		if g.ID != policy.CheckNoInhibitor { // it needs to know nothing yet
			assert.NotEmpty(t, blanks[g.ID], g.ID)
		}
	}
}

var row = regexp.MustCompile("(?m)^\\| `(check_[a-z_]+)` \\| (\\d+) \\| (\\d+) \\| (yes|no) \\|")

// TestTheDocsHaveTheCodes: docs/guards.md and the code are one table.
func TestTheDocsHaveTheCodes(t *testing.T) {
	doc, err := os.ReadFile("../docs/guards.md")
	require.NoError(t, err)
	var documented []policy.GuardSpec
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		blocks, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		g := policy.GuardSpec{ID: policy.GuardID(m[1]), Block: policy.Code(blocks), Hard: m[4] == "yes"}
		require.Equal(t, strconv.Itoa(int(g.Unknown())), m[3], g.ID)
		documented = append(documented, g)
	}
	require.Equal(t, policy.Guards(), documented)
	for _, g := range documented {
		assert.Contains(t, string(doc), "\n- `"+string(g.ID)+"`: ", "what it blocks on")
	}
}
