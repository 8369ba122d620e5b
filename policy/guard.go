package policy

// GuardID names a guard. The names are part of the operator's contract: they
// stand in `modectl guard NAME`, in verdicts and in the audit log.
type GuardID string

// The guards.
const (
	CheckGPUDisplayReleased         GuardID = "check_gpu_display_released"
	CheckGraphicalSessionAbsent     GuardID = "check_graphical_session_absent"
	CheckGraphicalSessionTerminable GuardID = "check_graphical_session_terminable"
	CheckTargetReachable            GuardID = "check_target_reachable"
)

// Code is a guard's verdict as an exit code: 0 pass, 10 to 19 blocked, 20 to 29
// could not be judged. 30 and above is misuse of the controller and never comes
// from a guard.
type Code int

// Pass is the code of a guard that found nothing against the transition.
const Pass Code = 0

// unjudged is added to a guard's blocking code when the evidence is missing.
const unjudged Code = 10

// Misuse is the code of a request that no guard can judge.
const Misuse Code = 30

// GuardSpec is what is fixed about a guard: the code it blocks with and whether
// force can skip it.
type GuardSpec struct {
	ID    GuardID
	Block Code
	Hard  bool // force never skips a hard guard
}

// Unknown is the code for "could not be judged", which blocks as a block does.
func (g GuardSpec) Unknown() Code { return g.Block + unjudged }

var guardSpecs = []GuardSpec{
	{CheckGPUDisplayReleased, 11, true},
	{CheckGraphicalSessionAbsent, 17, true},
	{CheckGraphicalSessionTerminable, 17, true},
	{CheckTargetReachable, 18, true},
}

// Guard returns what is fixed about the guard of that name.
func Guard(id GuardID) (GuardSpec, bool) {
	for _, g := range guardSpecs {
		if g.ID == id {
			return g, true
		}
	}
	return GuardSpec{}, false
}

// Guards lists every guard there is.
func Guards() []GuardSpec { return append([]GuardSpec(nil), guardSpecs...) }
