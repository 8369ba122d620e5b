package policy

// GuardID names a guard. The names are a stable interface: `modectl guard NAME`, the
// verdicts and the history have them.
type GuardID string

// The guards.
const (
	CheckAudioIdle                  GuardID = "check_audio_idle"
	CheckGPUDisplayReleased         GuardID = "check_gpu_display_released"
	CheckCPULoadSafe                GuardID = "check_cpu_load_safe"
	CheckUserJobsSafe               GuardID = "check_user_jobs_safe"
	CheckNoInhibitor                GuardID = "check_no_inhibitor"
	CheckMemoryHeadroom             GuardID = "check_memory_headroom"
	CheckVLLMDrainable              GuardID = "check_vllm_drainable"
	CheckGraphicalSessionPresent    GuardID = "check_graphical_session_present"
	CheckGraphicalSessionAbsent     GuardID = "check_graphical_session_absent"
	CheckGraphicalSessionTerminable GuardID = "check_graphical_session_terminable"
	CheckTargetReachable            GuardID = "check_target_reachable"
	CheckPersistencePathsReady      GuardID = "check_persistence_paths_ready"
	CheckStudioCapabilityLocal      GuardID = "check_studio_capability_local"
	CheckComputeCapabilityLocal     GuardID = "check_compute_capability_local"
)

// Code is the verdict of a guard as an exit code: 0 passed, 10 to 19 blocked, 20 to 29
// not judged. 30 and above is misuse of the controller and never comes from a guard.
type Code int

// Pass is the code of a guard that passed.
const Pass Code = 0

// unjudged is added to the blocking code of a guard that lacks evidence.
const unjudged Code = 10

// Misuse is the code of a request that no guard can judge.
const Misuse Code = 30

// GuardSpec has the properties of a guard: the code that it blocks with, and whether
// force can skip it.
type GuardSpec struct {
	ID    GuardID
	Block Code
	Hard  bool // force never skips a hard guard
}

// Unknown is the code of a guard that could not judge. It blocks as well.
func (g GuardSpec) Unknown() Code { return g.Block + unjudged }

// guardSpecs is the table of docs/guards.md. A test keeps the two equal.
var guardSpecs = []GuardSpec{
	{CheckAudioIdle, 10, true},
	{CheckGPUDisplayReleased, 11, true},
	{CheckCPULoadSafe, 12, false},
	{CheckUserJobsSafe, 13, false},
	{CheckNoInhibitor, 13, false},
	{CheckMemoryHeadroom, 14, false},
	{CheckVLLMDrainable, 15, false},
	{CheckGraphicalSessionPresent, 16, false},
	{CheckGraphicalSessionAbsent, 17, true},
	{CheckGraphicalSessionTerminable, 17, true},
	{CheckTargetReachable, 18, true},
	{CheckPersistencePathsReady, 18, true},
	{CheckStudioCapabilityLocal, 19, true},
	{CheckComputeCapabilityLocal, 19, true},
}

// Guard returns the properties of a guard.
func Guard(id GuardID) (GuardSpec, bool) {
	for _, g := range guardSpecs {
		if g.ID == id {
			return g, true
		}
	}
	return GuardSpec{}, false
}

// Guards lists every guard.
func Guards() []GuardSpec { return append([]GuardSpec(nil), guardSpecs...) }

// GuardsTo lists the guards of a request for mode from any other mode, in order, and the
// gates: guards that the plan evaluates after its steps have released the GPUs. A plan
// from a given mode has a subset.
func (p Policy) GuardsTo(mode Mode) (guards, gates []GuardID) {
	guards = []GuardID{CheckTargetReachable, CheckNoInhibitor}
	chosen := func(id GuardID) {
		if p.Guards.Chosen(id) {
			guards = append(guards, id)
		}
	}
	switch mode {
	case Compute:
		guards = append(
			guards, CheckComputeCapabilityLocal, CheckPersistencePathsReady, CheckAudioIdle, CheckCPULoadSafe,
			CheckUserJobsSafe, CheckMemoryHeadroom,
		)
		if p.VLLM.Enabled && (len(p.OtherVLLMUnits(Compute)) > 0 || p.VLLMInstances() != "") { // another unit of vLLM may run
			guards = append(guards, CheckVLLMDrainable)
		}
		guards = append(guards, CheckGraphicalSessionTerminable)
		return guards, []GuardID{CheckGraphicalSessionAbsent, CheckGPUDisplayReleased}
	case StudioLocal:
		guards = append(guards, CheckStudioCapabilityLocal)
		chosen(CheckGraphicalSessionPresent)
		guards = append(guards, CheckVLLMDrainable)
		chosen(CheckUserJobsSafe)
	default:
		guards = append(guards, CheckVLLMDrainable)
	}
	return append(guards, CheckMemoryHeadroom), []GuardID{CheckGPUDisplayReleased}
}
