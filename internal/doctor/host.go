package doctor

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// policies: the file can be used, is what is in force, and names what there is.
func policies(f Facts, s *sheet) {
	p := f.Policy
	for _, fault := range p.FileErrs {
		s.fail("modectl policy check "+p.File, "%s", fault)
	}
	if p.Unread != "" {
		s.unseen(asRoot, "whether %s can be used cannot be seen: %s", p.File, p.Unread)
	}
	switch {
	case p.Err != "":
		s.fail(startDaemon, "the policy is not known: %s", p.Err)
		return
	case len(p.FileErrs) > 0: // it is said
	case len(p.Pending) > 0:
		s.warn("systemctl reload dubniumd, or restart it for paths; modectl policy diff "+p.File,
			"%s has other values than are in force for %s", p.File, strings.Join(p.Pending, ", "))
	case p.InForce:
		s.ok("the policy of %s is in force, transitions = %q", cmp.Or(p.File, "no file"), p.Transitions)
	default:
		s.ok("%s can be used, transitions = %q", p.File, p.Transitions)
	}
	if f.BusErr == "" && f.Manager.Err == "" {
		f.namedUnits(s)
	}
}

// namedUnits: what the policy names and Dubnium does not install is there. A name
// that nobody gave is no promise, except of what modes cannot do without.
func (f Facts) namedUnits(s *sheet) {
	p, all := f.Policy, true
	lacks := func(key, name string, say func(remedy, format string, args ...any)) {
		if u, seen := f.Units[name]; seen && u.Err == "" && u.LoadState == "not-found" {
			say(
				fmt.Sprintf("install it, or name another in the policy: %s", key),
				"the policy names %s (%s), and the host has no such unit", name, key,
			)
			all = false
		}
	}
	lacks("units.display_manager", p.Units.DisplayManager, s.fail)
	if p.VLLM.Enabled {
		for _, name := range p.VLLM.ProfileNames() {
			if name != policy.ProfileDefault || f.usesProfile(name) { // else the file may not name it
				lacks("vllm.profiles."+name, p.VLLM.Profiles[name].Unit, s.fail)
			}
		}
	}
	if slices.Contains(p.Chosen, "units.k3s") {
		lacks("units.k3s", p.Units.K3s, s.warn)
	}
	for _, name := range p.MustSurvive {
		lacks("must_survive", name, s.warn)
	}
	if slices.Contains(p.Chosen, "gpu.permitted_holders") {
		for _, name := range p.GPU.PermittedHolders {
			lacks("gpu.permitted_holders", name, s.warn)
		}
	}
	if all {
		s.ok("the host has the units that the policy names")
	}
}

// usesProfile reports whether a mode runs vLLM in this profile.
func (f Facts) usesProfile(name string) bool {
	return slices.ContainsFunc(policy.Modes(), func(m policy.Mode) bool {
		return f.Policy.Contract(m).VLLMProfile == name
	})
}

// paths: the daemon's files are there, and nobody but root can change them.
func paths(f Facts, s *sheet) {
	for _, p := range f.Paths {
		switch by := p.changeable(); {
		case p.Err != "" && f.UID != 0:
			s.unseen(asRoot, "%s cannot be looked at: %s", p.Path, p.Err)
		case p.Err != "":
			s.fail("ls -ld "+p.Path, "%s cannot be looked at: %s", p.Path, p.Err)
		case p.Missing && p.Optional: // nothing has been written yet
		case p.Missing:
			s.fail(startDaemon, "%s is not there", p.Path)
		case by != "":
			s.fail("chown root "+by+" && chmod go-w "+by, "others than root can change %s", by)
		default:
			s.ok("%s is there, and only root can change it", p.Path)
		}
	}
	f.stores(s)
}

// changeable is the first path, from the top, that others than root can change or
// put something else in the place of; empty for none. In a sticky directory nobody
// can touch what is another's.
func (p Path) changeable() string {
	const othersWrite = 0o022
	for _, above := range p.Above {
		if above.Err == "" && (above.UID != 0 || above.Mode.Perm()&othersWrite != 0 && above.Mode&fs.ModeSticky == 0) {
			return above.Path
		}
	}
	if p.Err == "" && !p.Missing && (p.UID != 0 || p.Mode.Perm()&othersWrite != 0) {
		return p.Path
	}
	return ""
}

// stores: the disks take what is written, by the holders probe's look.
func (f Facts) stores(s *sheet) {
	if f.EvidenceErr != "" || !f.Evidence.Processes.Known() {
		return // probes says so
	}
	const MiB = 1 << 20
	for _, store := range f.Evidence.Processes.Directories {
		free := store.Free.Value
		switch {
		case store.Fault != "":
			s.fail("see mount and df "+store.Path, "%s cannot be used: %s", store.Path, store.Fault)
		case store.Reason != "" || free == nil:
			s.warn(
				"df "+store.Path, "how much room there is in %s is not known: %s", store.Path,
				cmp.Or(store.Reason, store.Free.Reason),
			)
		case *free < float64(f.Policy.Guards.MinFreeMiB)*MiB:
			s.fail("make room (df "+store.Path+"): until then no mode is changed",
				"%s has %.0f MiB left, and the policy wants %d", store.Path, *free/MiB, f.Policy.Guards.MinFreeMiB)
		default:
			s.ok("%s has %.0f MiB left", store.Path, *free/MiB)
		}
	}
}

// unseenEvidence says for a check that rests on the daemon's look that there is none.
func (f Facts) unseenEvidence(s *sheet) bool {
	switch {
	case f.EvidenceErr == "":
		return false
	case f.BusErr == "" && f.Daemon.Err == "":
		s.unseen("run modectl doctor again in a second", "the daemon could not look: %s", f.EvidenceErr)
	default:
		s.unseen(startDaemon, "it is the daemon that looks: %s", f.EvidenceErr)
	}
	return true
}

// probes: every source of the daemon's sees.
func probes(f Facts, s *sheet) {
	if f.unseenEvidence(s) {
		return
	}
	e := f.Evidence
	sources := []struct {
		name, unit string
		reading    observer.Reading
	}{
		{"systemd", "dubniumd.service", e.Systemd.Reading},
		{"logind", "systemd-logind.service", e.Logind.Reading},
		{"the kernel's measures", "dubniumd.service", e.Procfs.Reading},
		{"the holders probe", holdersSocket, e.Processes.Reading},
		{"the inference probe", vllmSocket, e.Inference.Reading},
	}
	if f.Driver != "" {
		sources = append(sources, struct {
			name, unit string
			reading    observer.Reading
		}{"the GPU probe", gpuSocket, e.GPU.Reading})
	}
	for _, source := range sources {
		if source.reading.Known() {
			s.ok("%s answers", source.name)
			continue
		}
		s.fail("systemctl status "+source.unit+", and journalctl -u "+strings.Replace(source.unit, ".socket", ".service", 1),
			"%s says nothing that can be used: %s", source.name, cmp.Or(source.reading.Reason, "not read yet"))
	}
}

// gpus: the cards that the policy names are there, and NVML sees NVIDIA's.
func gpus(f Facts, s *sheet) {
	if f.unseenEvidence(s) {
		return
	}
	e, p := f.Evidence, f.Policy.GPU
	if !e.Processes.Known() {
		s.unseen("first the holders probe", "which GPUs there are is not known: %s", e.Processes.Reason)
		return
	}
	there := map[string]observer.GPU{}
	for _, g := range e.Processes.GPUs {
		there[g.PCI] = g
	}
	named := slices.Concat(p.Display, p.AI)
	slices.Sort(named)
	for _, pci := range slices.Compact(named) {
		switch g, is := there[pci]; {
		case !is:
			s.fail(
				"lspci -D; name the card that is there in gpu.display and gpu.ai",
				"the policy names the GPU %s, and the host has none there", pci,
			)
		case g.Hidden:
			s.fail(
				"bind the card to its driver (lspci -k)", "the GPU %s has no driver that gives it device nodes (%s)", pci,
				cmp.Or(g.Driver, "none"),
			)
		default:
			s.ok("the GPU %s is there", pci)
		}
	}
	if len(there) == 0 && len(named) == 0 {
		s.warn("lspci -D; is the holders probe allowed to see /sys?", "the host has no GPU that can be seen")
	}
	if !p.Configured() && len(there) > 0 {
		s.ok("%d GPU(s) seen; the policy names none", len(there))
	}
	f.nvml(s)
	f.residual(s)
}

func (f Facts) nvml(s *sheet) {
	e := f.Evidence.GPU
	if f.Driver == "" || !e.Known() { // probes says so of one that does not answer
		return
	}
	if !e.Driver {
		s.fail("is libnvidia-ml.so.1 installed, and of the kernel's version? (nvidia-smi)",
			"the kernel has the NVIDIA driver (%s), and the GPU probe does not see it", f.Driver)
		return
	}
	for _, card := range e.Cards {
		if card.Reason != "" {
			s.fail(
				"nvidia-smi, dmesg; a library of another version than the driver wants a reboot", "NVML cannot read a card: %s %s",
				card.PCI, card.Reason,
			)
			continue
		}
		s.ok("NVML reads %s (%s)", card.PCI, card.Name)
	}
}

// audio: the daemon hears every person at a screen.
func audio(f Facts, s *sheet) {
	if f.unseenEvidence(s) {
		return
	}
	if len(f.Evidence.Audio.Servers) == 0 {
		s.ok("nobody is at a screen, whose audio would have to be seen")
	}
	say := s.warn
	if f.Policy.Audio.Required {
		say = s.fail
	}
	for _, server := range f.Evidence.Audio.Servers {
		unit := fmt.Sprintf("dubnium-probe-audio@%d.service", server.UID)
		switch {
		case !server.Known():
			say(
				"systemctl status "+unit, "the audio of uid %d cannot be seen: %s", server.UID,
				cmp.Or(server.Reason, "not read yet"),
			)
		case !server.Running:
			say(
				fmt.Sprintf("systemctl --user --machine=%d@ status pipewire-pulse", server.UID),
				"uid %d has no audio server that runs", server.UID,
			)
		default:
			s.ok("the audio of uid %d can be seen", server.UID)
		}
	}
}

// born is when this was written: a clock before it is wrong.
var born = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock: the times in the history mean something.
func clock(f Facts, s *sheet) {
	const remedy = "timedatectl set-ntp true, and timedatectl timesync-status"
	switch {
	case f.Now.Before(born):
		s.fail(remedy, "the clock says %s, which is long past", f.Now.Format(time.DateTime))
	case f.Clock.Boot.After(f.Now.Add(time.Second)):
		s.fail(
			remedy, "the clock says %s, and the machine started at %s", f.Now.Format(time.DateTime),
			f.Clock.Boot.Format(time.DateTime),
		)
	case f.Daemon.LastFinished.After(f.Now.Add(time.Minute)):
		s.warn(remedy, "the clock was set back: the last transition ended at %s", f.Daemon.LastFinished.Format(time.DateTime))
	case f.Clock.Err != "":
		s.unseen("timedatectl", "whether the clock is synchronized cannot be told: %s", f.Clock.Err)
	case !f.Clock.Synchronized:
		s.warn(remedy, "the clock is not synchronized: the times in the history may be wrong")
	default:
		s.ok("the clock is synchronized")
	}
}
