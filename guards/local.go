package guards

import (
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// studioLocal blocks when the policy places the studio on another machine, or its units
// are missing.
func studioLocal(p policy.Policy, s observer.Snapshot, _ Request) finding {
	if p.Placement.Studio != policy.Local {
		return block(
			fmt.Sprintf("placement.studio is %q in the policy", p.Placement.Studio),
			"use the machine of the studio, or change the placement",
		)
	}
	if !s.Systemd.Known() {
		return unreadSystemd(s)
	}
	for _, name := range []string{p.Units.AudioPriority, p.Units.StudioPolicy} {
		if f, ok := loadable(s.Systemd, name); !ok {
			return f
		}
	}
	return pass("the studio is on this machine")
}

// computeLocal blocks when the policy places inference on another machine, or its GPUs
// are missing, except planned ones. While a studio is active that the policy now places
// on another machine, only desktop can be requested.
func computeLocal(p policy.Policy, s observer.Snapshot, _ Request) finding {
	if p.Placement.AI != policy.Local {
		return block(
			fmt.Sprintf("placement.ai is %q in the policy", p.Placement.AI),
			"use that machine, or change the placement",
		)
	}
	if p.Placement.Studio != policy.Local {
		switch studio := observer.Derive(p, s)[observer.StudioPolicy]; studio.Truth {
		case observer.True:
			return block(
				"the studio is active here, but the policy places it on another machine: only desktop can be requested",
				"run `modectl request desktop` first")
		case observer.Unknown:
			return cannotTell(
				"cannot determine whether the studio, placed on another machine, is active here: "+studio.Reason,
				"see `systemctl status "+p.Units.StudioPolicy+"`, and retry")
		}
	}
	fact := observer.AIEnterable(p, s)
	switch fact.Truth {
	case observer.True:
		return pass(fact.Reason)
	case observer.False:
		return block(fact.Reason,
			"fix that, or add the GPU to gpu.planned or set gpu.min_ai in the policy")
	}
	return cannotTell("cannot determine whether the GPUs for inference are present: "+fact.Reason, seeHolders)
}

// seeHolders is the remedy when the holders probe cannot be read.
const seeHolders = "see `systemctl status dubnium-probe-holders.socket`"

// pathsReady blocks when a directory of the policy is missing, not writable or full.
func pathsReady(p policy.Policy, s observer.Snapshot, _ Request) finding {
	if !s.Processes.Known() {
		return cannotTell("cannot read the directories: "+unread(s.Processes.Reading), seeHolders)
	}
	f := pass("the directories of the policy exist")
	for _, path := range p.Directories() {
		i := slices.IndexFunc(s.Processes.Directories, func(s observer.Directory) bool { return s.Path == path })
		if i < 0 {
			return cannotTell(path+" has not been read", seeHolders+", and whether it reads the daemon's policy")
		}
		switch g := judgeStore(p, s.Processes.Directories[i]); {
		case g.answer == observer.False:
			return g
		case g.answer == observer.Unknown && f.answer == observer.True:
			f = g
		}
	}
	return f
}

func judgeStore(p policy.Policy, s observer.Directory) finding {
	need := float64(p.Guards.MinFreeMiB) * (1 << 20)
	switch {
	case s.Fault != "":
		return block(s.Path+" cannot be used: "+s.Fault, "fix that, or correct the directory in the policy")
	case s.Reason != "":
		return cannotTell("cannot read "+s.Path+": "+s.Reason, "check it, and retry")
	case need == 0:
		return pass(s.Path + " exists")
	case s.Free.Value == nil:
		return cannotTell("the free space of "+s.Path+" is unknown: "+s.Free.Reason, "see `df "+s.Path+"`")
	case *s.Free.Value < need:
		free := *s.Free.Value / (1 << 20)
		return block(fmt.Sprintf("%s has %.0f MiB free, less than %d", s.Path, free, p.Guards.MinFreeMiB),
			"free some space, or change guards.min_free_mib in the policy")
	}
	return pass(s.Path + " exists and has enough free space")
}
