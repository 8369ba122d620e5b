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

// policies checks that the file is valid and in force, and that its units exist.
func policies(f Facts, s *sheet) {
	p := f.Policy
	for _, fault := range p.FileErrs {
		s.fail("modectl policy check "+p.File, "%s", fault)
	}
	if p.Unread != "" {
		s.unseen(asRoot, "cannot read the policy file: %s", p.Unread)
	}
	switch {
	case p.Err != "":
		s.fail(startDaemon, "the policy is unknown: %s", p.Err)
		return
	case len(p.FileErrs) > 0: // reported above
	case len(p.Pending) > 0:
		s.warn("systemctl reload dubniumd, or restart it for paths; modectl policy diff "+p.File,
			"values of %s are not in force: %s", p.File, strings.Join(p.Pending, ", "))
	case p.InForce:
		s.ok("the policy of %s is in force, transitions = %q", cmp.Or(p.File, "no file"), p.Transitions)
	default:
		s.ok("%s is valid, transitions = %q", p.File, p.Transitions)
	}
	if f.BusErr == "" && f.Manager.Err == "" {
		f.namedUnits(s)
	}
}

// namedUnits checks the units of the policy that Dubnium does not install. The default
// name of a unit that modes can do without is not checked.
func (f Facts) namedUnits(s *sheet) {
	p, all := f.Policy, true
	check := func(key, name string, report func(remedy, format string, args ...any)) {
		if u, ok := f.Units[name]; ok && u.Err == "" && u.LoadState == "not-found" {
			report(
				fmt.Sprintf("install it, or name another in the policy: %s", key),
				"the policy names %s (%s), but the host has no such unit", name, key,
			)
			all = false
		}
	}
	check("units.display_manager", p.Units.DisplayManager, s.fail)
	if p.VLLM.Enabled {
		for _, name := range p.VLLM.ProfileNames() {
			if name != policy.ProfileDefault || f.usesProfile(name) { // else it may be the default
				check("vllm.profiles."+name, p.VLLM.Profiles[name].Unit, s.fail)
			}
		}
	}
	if slices.Contains(p.Chosen, "units.k3s") {
		check("units.k3s", p.Units.K3s, s.warn)
	}
	for _, name := range p.MustSurvive {
		check("must_survive", name, s.warn)
	}
	if slices.Contains(p.Chosen, "gpu.permitted_holders") {
		for _, name := range p.GPU.PermittedHolders {
			check("gpu.permitted_holders", name, s.warn)
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

// paths checks that the files of the daemon exist and only root can change them.
func paths(f Facts, s *sheet) {
	for _, p := range f.Paths {
		switch by := p.changeable(); {
		case p.Err != "" && f.UID != 0:
			s.unseen(asRoot, "cannot read %s: %s", p.Path, p.Err)
		case p.Err != "":
			s.fail("ls -ld "+p.Path, "cannot read %s: %s", p.Path, p.Err)
		case p.Missing && p.Optional: // not written yet
		case p.Missing:
			s.fail(startDaemon, "%s does not exist", p.Path)
		case by != "":
			s.fail("chown root "+by+" && chmod go-w "+by, "users other than root can change %s", by)
		default:
			s.ok("%s exists, and only root can change it", p.Path)
		}
	}
	f.stores(s)
}

// changeable is the first path, from the root, that users other than root can change
// or replace; empty for none. A sticky directory protects the files of other users.
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

// stores checks that the disks are writable and have space, by the holders probe.
func (f Facts) stores(s *sheet) {
	if f.EvidenceErr != "" || !f.Evidence.Processes.Known() {
		return // probes reports it
	}
	const MiB = 1 << 20
	for _, store := range f.Evidence.Processes.Directories {
		free := store.Free.Value
		switch {
		case store.Fault != "":
			s.fail("see mount and df "+store.Path, "%s is not usable: %s", store.Path, store.Fault)
		case store.Reason != "" || free == nil:
			s.warn(
				"df "+store.Path, "the free space in %s is unknown: %s", store.Path,
				cmp.Or(store.Reason, store.Free.Reason),
			)
		case *free < float64(f.Policy.Guards.MinFreeMiB)*MiB:
			s.fail("free space (df "+store.Path+"); until then transitions are blocked",
				"%s has %.0f MiB free, the policy requires %d", store.Path, *free/MiB, f.Policy.Guards.MinFreeMiB)
		default:
			s.ok("%s has %.0f MiB free", store.Path, *free/MiB)
		}
	}
}

// unseenEvidence reports a check as unseen if the daemon returned no snapshot.
func (f Facts) unseenEvidence(s *sheet) bool {
	switch {
	case f.EvidenceErr == "":
		return false
	case f.BusErr == "" && f.Daemon.Err == "":
		s.unseen("run modectl doctor again in a second", "the daemon could not read the host: %s", f.EvidenceErr)
	default:
		s.unseen(startDaemon, "this check needs the daemon: %s", f.EvidenceErr)
	}
	return true
}

// probes checks that every source of the daemon works.
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
		{"procfs", "dubniumd.service", e.Procfs.Reading},
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
			"%s has no data: %s", source.name, cmp.Or(source.reading.Reason, notRead))
	}
}

const notRead = "not read yet"

// gpus checks that the GPUs of the policy exist and NVML reads those of NVIDIA.
func gpus(f Facts, s *sheet) {
	if f.unseenEvidence(s) {
		return
	}
	e, p := f.Evidence, f.Policy.GPU
	if !e.Processes.Known() {
		s.unseen("repair the holders probe", "the GPUs of the host are unknown: %s", e.Processes.Reason)
		return
	}
	present := map[string]observer.GPU{}
	for _, g := range e.Processes.GPUs {
		present[g.PCI] = g
	}
	named := slices.Concat(p.Display, p.AI)
	slices.Sort(named)
	for _, pci := range slices.Compact(named) {
		switch g, ok := present[pci]; {
		case !ok:
			s.fail("lspci -D; correct gpu.display and gpu.ai in the policy",
				"the policy names the GPU %s, but the host has no GPU at this address", pci)
		case g.Hidden:
			s.fail("bind the card to its driver (lspci -k)",
				"the GPU %s has no driver that creates device nodes (%s)", pci, cmp.Or(g.Driver, "none"))
		default:
			s.ok("the GPU %s is present", pci)
		}
	}
	if len(present) == 0 && len(named) == 0 {
		s.warn("lspci -D; is the holders probe allowed to read /sys?", "no GPU found")
	}
	if !p.Configured() && len(present) > 0 {
		s.ok("%d GPU(s) found; the policy names none", len(present))
	}
	f.nvml(s)
	f.residual(s)
}

func (f Facts) nvml(s *sheet) {
	e := f.Evidence.GPU
	if f.Driver == "" || !e.Known() { // probes reports one that does not answer
		return
	}
	if !e.Driver {
		s.fail("is libnvidia-ml.so.1 installed, in the version of the driver? (nvidia-smi)",
			"the kernel has the NVIDIA driver (%s), but the GPU probe cannot use it", f.Driver)
		return
	}
	for _, card := range e.Cards {
		if card.Reason != "" {
			s.fail("nvidia-smi, dmesg; reboot if the library and the driver have different versions",
				"NVML cannot read a card: %s %s", card.PCI, card.Reason)
			continue
		}
		s.ok("NVML reads %s (%s)", card.PCI, card.Name)
	}
}

// audio checks that the daemon reads the audio server of every user at a screen.
func audio(f Facts, s *sheet) {
	if f.unseenEvidence(s) {
		return
	}
	if len(f.Evidence.Audio.Servers) == 0 {
		s.ok("no user is at a screen, so no audio server is read")
	}
	report := s.warn
	if f.Policy.Audio.Required {
		report = s.fail
	}
	for _, server := range f.Evidence.Audio.Servers {
		unit := fmt.Sprintf("dubnium-probe-audio@%d.service", server.UID)
		switch {
		case !server.Known():
			report("systemctl status "+unit,
				"cannot read the audio server of uid %d: %s", server.UID, cmp.Or(server.Reason, notRead))
		case !server.Running:
			report(fmt.Sprintf("systemctl --user --machine=%d@ status pipewire-pulse", server.UID),
				"uid %d has no running audio server", server.UID)
		default:
			s.ok("the audio server of uid %d is readable", server.UID)
		}
	}
}

// earliest is before any release of Dubnium: a clock before it is wrong.
var earliest = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock checks that the times in the history can be trusted.
func clock(f Facts, s *sheet) {
	const remedy = "timedatectl set-ntp true, and timedatectl timesync-status"
	switch {
	case f.Now.Before(earliest):
		s.fail(remedy, "the clock is wrong: %s is in the past", f.Now.Format(time.DateTime))
	case f.Clock.Boot.After(f.Now.Add(time.Second)):
		s.fail(
			remedy, "the clock is wrong: %s is before the boot at %s", f.Now.Format(time.DateTime),
			f.Clock.Boot.Format(time.DateTime),
		)
	case f.Daemon.LastFinished.After(f.Now.Add(time.Minute)):
		s.warn(remedy, "the clock was set back: the last transition ended at %s", f.Daemon.LastFinished.Format(time.DateTime))
	case f.Clock.Err != "":
		s.unseen("timedatectl", "cannot tell whether the clock is synchronized: %s", f.Clock.Err)
	case !f.Clock.Synchronized:
		s.warn(remedy, "the clock is not synchronized: the times in the history may be wrong")
	default:
		s.ok("the clock is synchronized")
	}
}
