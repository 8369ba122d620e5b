package guards

import (
	"fmt"
	"slices"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// studioLocal blocks where the studio is on another machine, or this one lacks its
// units.
func studioLocal(p policy.Policy, s observer.Snapshot, _ Request) finding {
	if p.Placement.Studio != policy.Local {
		return block(
			fmt.Sprintf("placement.studio is %q in the policy", p.Placement.Studio),
			"use the machine that has the studio, or change the placement",
		)
	}
	if !s.Systemd.Known() {
		return cannotTell("systemd could not be asked: "+unread(s.Systemd.Reading),
			"look at `systemctl status` and ask again")
	}
	for _, name := range []string{p.Units.AudioPriority, p.Units.StudioPolicy} {
		if f, ok := loadable(s.Systemd, name); !ok {
			return f
		}
	}
	return pass("the studio is on this machine")
}

// computeLocal blocks where inference is on another machine, or this one lacks the
// GPUs for it; those that are planned may be missing. Out of a studio that the
// policy has meanwhile put on another machine, only the way to desktop is open.
func computeLocal(p policy.Policy, s observer.Snapshot, _ Request) finding {
	if p.Placement.AI != policy.Local {
		return block(
			fmt.Sprintf("placement.ai is %q in the policy", p.Placement.AI),
			"use the machine that has it, or change the placement",
		)
	}
	if p.Placement.Studio != policy.Local {
		switch studio := observer.Derive(p, s)[observer.StudioPolicy]; studio.Truth {
		case observer.True:
			return block(
				"the studio is active on this machine, but the policy places it on another: only desktop can be requested",
				"run `modectl request desktop` first")
		case observer.Unknown:
			return cannotTell(
				"cannot determine whether the studio, placed on another machine, is active here: "+studio.Reason,
				"look at `systemctl status "+p.Units.StudioPolicy+"` and ask again")
		}
	}
	fact := observer.AIEnterable(p, s)
	switch fact.Truth {
	case observer.True:
		return pass(fact.Reason)
	case observer.False:
		return block(fact.Reason,
			"fix that, or let compute do without it: name the GPU under gpu.planned as well, or set gpu.min_ai")
	}
	return cannotTell("whether the GPUs for inference are there could not be found out: "+fact.Reason,
		"look at `systemctl status dubnium-probe-holders.socket`")
}

// pathsReady blocks where a directory that the policy needs is missing, cannot be
// written to or is full.
func pathsReady(p policy.Policy, s observer.Snapshot, _ Request) finding {
	const look = "look at `systemctl status dubnium-probe-holders.socket`"
	if !s.Processes.Known() {
		return cannotTell("the directories could not be looked at: "+unread(s.Processes.Reading), look)
	}
	f := pass("the directories of the policy are there")
	for _, path := range p.Stores() {
		i := slices.IndexFunc(s.Processes.Directories, func(s observer.Store) bool { return s.Path == path })
		if i < 0 {
			return cannotTell(path+" has not been looked at", look+" and whether it has the daemon's policy")
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

func judgeStore(p policy.Policy, s observer.Store) finding {
	need := float64(p.Guards.MinFreeMiB) * (1 << 20)
	switch {
	case s.Fault != "":
		return block(s.Path+" cannot be used: "+s.Fault, "fix that, or name the right directory in the policy")
	case s.Reason != "":
		return cannotTell(s.Path+" could not be looked at: "+s.Reason, "look at it, and ask again")
	case need == 0:
		return pass(s.Path + " is there")
	case s.Free.Value == nil:
		return cannotTell("how much room "+s.Path+" has is not known: "+s.Free.Reason, "look at `df "+s.Path+"`")
	case *s.Free.Value < need:
		return block(fmt.Sprintf("%s has %.0f MiB of room, less than %d", s.Path, *s.Free.Value/(1<<20),
			p.Guards.MinFreeMiB),
			"make room, or change guards.min_free_mib in the policy")
	}
	return pass(s.Path + " is there and has room")
}
