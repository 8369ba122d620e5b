// Package host carries out the steps that change the host: it starts and stops
// units, isolates targets, ends sessions and sets properties of slices, through
// systemd and logind.
//
// Failure semantics: a call that was accepted is not success. Apply waits for the job
// or the removal that it requested, bounded by its context; Verify reads the host
// again. An error has the operation, the unit or session, and the reason that systemd
// gives. If the context ends first, the error wraps that of the context. If systemd,
// logind or the bus disappears, the error says so, and nothing hangs. Apply and Undo of
// each kind are next to each other.
package host

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/dubnium/dubnium/internal/busconn"
	"github.com/dubnium/dubnium/internal/busconn/login1"
	"github.com/dubnium/dubnium/internal/busconn/systemd1"
	"github.com/dubnium/dubnium/plans"
	"github.com/dubnium/dubnium/policy"
)

// Cgroups is the mount point of the kernel's control groups.
const Cgroups = "/sys/fs/cgroup"

// Options are what the handlers need besides the bus and the policy.
type Options struct {
	SavedState *SavedState
	// Cgroups is the directory in which properties of slices are read back.
	Cgroups string
	// Monitor reads which processes hold a GPU.
	Monitor SnapshotWaiter
	Log     *zap.Logger
}

// StepHandlers returns the handlers of the steps that change the host.
func StepHandlers(bus *busconn.Bus, p policy.Policy, o Options) map[plans.Kind]plans.StepHandler {
	units, logind := units{systemd1.New(bus)}, login1.New(bus)
	maintenance := maintenance{units, o.SavedState}
	return map[plans.Kind]plans.StepHandler{
		plans.StartUnit: startUnit{units},
		plans.StopUnit:  stopUnit{units},
		plans.Isolate: isolate{
			units:       units,
			modeTargets: []string{p.Units.DesktopTarget, p.Units.ComputeTarget},
			modeUnits: map[string][]string{
				p.Units.DesktopTarget: append([]string{
					p.Units.StudioPolicy, p.Units.AudioPriority, p.Units.DisplayManager,
				}, p.Modes.Desktop.Required...),
				p.Units.ComputeTarget: append(p.VLLMUnits(), p.Modes.Compute.Required...),
			},
			maintenance: slices.DeleteFunc(p.Studio.Units(), isService),
			headless:    p.Units.ComputeTarget,
			logind:      logind,
		},
		plans.StopVLLM:    stopVLLM{stopUnit{units}, o.Monitor, p, &seenWorkers{}},
		plans.AskSessions: askSessions{units},
		plans.EndSessions: endSessions{logind},
		plans.EndManagers: endManagers{units, logind, o.Monitor, p},
		plans.SetSlices:   setSlices{units.manager, o.SavedState, cgroups(o.Cgroups), o.Log},
		plans.Quiesce:     quiesce{maintenance},
		plans.Resume:      resume{maintenance},
	}
}

// encodeUndo encodes what Undo will need, for the journal.
func encodeUndo(before any) (json.RawMessage, error) {
	data, err := json.Marshal(before)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the previous state: %w", err)
	}
	return data, nil
}

// decodeUndo decodes what Prepare returned. It reports false if Prepare never finished:
// then Apply did not begin, and there is nothing to undo.
func decodeUndo(before json.RawMessage, into any) (bool, error) {
	if len(before) == 0 {
		return false, nil
	}
	if err := json.Unmarshal(before, into); err != nil {
		return false, fmt.Errorf("cannot decode the previous state: %w", err)
	}
	return true, nil
}
