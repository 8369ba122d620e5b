package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// isUserUnit reports whether a unit runs programs of users, or the manager itself.
func isUserUnit(unit string) bool {
	ofUser := func(prefix string) bool { return strings.HasPrefix(unit, prefix) }
	return unit == "init.scope" || slices.ContainsFunc([]string{"user@", "user-runtime-dir@", "session-"}, ofUser)
}

// isProgram reports whether text is the name of a program or an absolute path.
func isProgram(text string) bool {
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' }) {
		return false
	}
	path, absolute := strings.CutPrefix(text, "/")
	return path != "" && !slices.Contains(strings.Split(path, "/"), "") && (absolute || !strings.Contains(text, "/"))
}

// faults lists the values that have the right type and make sense on no host. A schema
// cannot express them.
func (p Policy) faults() []fault {
	var faults []fault
	check := func(ok bool, key, format string, args ...any) {
		if !ok {
			faults = append(faults, fault{key, fmt.Sprintf(format, args...)})
		}
	}
	p.pathFaults(check)
	p.sessionFaults(check)
	p.unitFaults(check)
	p.gpuFaults(check)
	p.vllmFaults(check)
	p.timeFaults(check)
	p.guardFaults(check)
	p.sliceFaults(check)
	p.studioFaults(check)
	p.contractFaults(check)
	p.auditFaults(check)
	p.reconcileFaults(check)
	check(p.DefaultMode != Compute, "default_mode", "expected desktop or studio-local: a host cannot boot to compute")
	return faults
}

func (p Policy) pathFaults(check checker) {
	for key, dir := range map[string]string{
		"paths.runtime": p.Paths.Runtime, "paths.state": p.Paths.State, "paths.probes": p.Paths.Probes,
		"paths.rebuild_lock": p.Paths.RebuildLock, "paths.issue": p.Paths.Issue,
	} {
		check(cleanPath(dir), key, notClean, dir)
		check(dir != "/", key, "must not be the root directory")
		check(!beneath(dir, store), key, "%s is in the Nix store, which is read-only", dir)
		for _, home := range []string{"/home", "/root", "/run/user"} {
			check(!beneath(dir, home), key, "%s is in a home directory: use a directory of the system", dir)
		}
	}
}

func (p Policy) timeFaults(check checker) {
	for key, d := range p.durations() {
		check(d > 0, key, notPositive)
	}
	for key, d := range map[string]Duration{
		"announce.grace": p.Announce.Grace, "announce.max_delay": p.Announce.MaxDelay,
		"announce.max_postpone": p.Announce.MaxPostpone,
	} {
		check(d >= 0 && d.D() <= maxAnnounced, key, "must be from 0s to %s", maxAnnounced)
	}
	check(p.Audio.Grace >= 0, "audio.grace", negative)
}

// store is the Nix store.
const store = "/nix/store"

// beneath reports whether path is dir or in it.
func beneath(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// maxAnnounced bounds how long an accepted transition may wait.
const maxAnnounced = 24 * time.Hour

// maxAsked bounds the session hook. dubnium-session-end@.service has a timeout that is a
// little longer.
const maxAsked = 5 * time.Minute

func (p Policy) sessionFaults(check checker) {
	for i, word := range p.Sessions.EndHook {
		at := element("sessions.end_hook", i)
		check(i > 0 || isProgram(word), at, "expected the name of a program or an absolute path, found %q", word)
		check(!strings.ContainsRune(word, 0), at, "an argument must not contain a zero byte")
	}
	check(p.Sessions.EndTimeout.D() <= maxAsked, "sessions.end_timeout", "must be at most %s", maxAsked)
}

// checker notes a fault of a key unless it is ok.
type checker func(ok bool, key, format string, args ...any)

// Texts of faults that many keys share.
const (
	notClean      = "expected an absolute path without . and .., found %q"
	notPositive   = "must be greater than 0"
	negative      = "must not be negative"
	notUnit       = "expected the name of a unit, found %q"
	namesTemplate = "%s is a template: name an instance of it"
	duplicate     = "duplicate entry %s"
)

// cleanPath reports whether path is absolute and in its shortest form.
func cleanPath(path string) bool { return filepath.IsAbs(path) && filepath.Clean(path) == path }

func (p Policy) unitFaults(check checker) {
	for key, unit := range p.Units.byKey() {
		check(isUnit(unit), key, notUnit, unit)
	}
	for key, target := range map[string]string{
		"units.desktop_target": p.Units.DesktopTarget, "units.compute_target": p.Units.ComputeTarget,
	} {
		check(strings.HasSuffix(target, ".target"), key, "expected the name of a target, found %q", target)
	}
	check(p.Units.DesktopTarget != p.Units.ComputeTarget, "units.compute_target", "must differ from units.desktop_target")
	stopped := p.stoppedByModes()
	for i, unit := range p.MustSurvive {
		key := element("must_survive", i)
		check(isAnyUnit(unit) && nameable(unit), key, notUnit, unit)
		check(!isTemplate(unit), key, namesTemplate, unit)
		if _, instance := p.InstanceOfVLLM(unit); instance {
			stopped[unit] = "on the way out of compute"
		}
		check(stopped[unit] == "", key, "%s is stopped %s", unit, stopped[unit])
	}
}

// stoppedByModes says when transitions stop a unit by name. Which units an isolate stops
// depends on the host and is not known here.
func (p Policy) stoppedByModes() map[string]string {
	stopped := map[string]string{
		"graphical.target": "on the way to compute", p.Units.DisplayManager: "on the way to compute",
		p.Units.DesktopTarget: "on the way to compute", p.Units.ComputeTarget: "on the way out of compute",
		p.Units.StudioPolicy: "on the way out of studio-local", p.Units.AudioPriority: "on the way out of studio-local",
	}
	for _, unit := range p.VLLMUnits() {
		stopped[unit] = "on the way out of compute"
	}
	for _, unit := range p.Studio.Units() {
		stopped[unit] = "for studio-local"
	}
	return stopped
}

func (p Policy) gpuFaults(check checker) {
	for key, list := range map[string][]string{
		"gpu.display": p.GPU.Display, "gpu.ai": p.GPU.AI, "gpu.planned": p.GPU.Planned,
	} {
		for i, pci := range list {
			check(isPCI(pci), element(key, i), "expected a PCI address such as 0000:01:00.0, found %q", pci)
			check(!slices.Contains(list[:i], pci), element(key, i), duplicate, pci)
		}
	}
	for i, pci := range p.GPU.Planned {
		check(!slices.Contains(p.GPU.Display, pci), element("gpu.planned", i),
			"%s is in gpu.display, and a display GPU cannot be missing", pci)
	}
	most := len(p.AIGPUs(Compute))
	check(p.GPU.MinAI >= 0 && p.GPU.MinAI <= most, "gpu.min_ai",
		"must be from 0 to %d, the number of GPUs for inference in compute", most)
	check(p.GPU.ResidualMiB >= 0, "gpu.residual_mib", negative)
}

func (u Units) byKey() map[string]string {
	return map[string]string{
		"units.desktop_target": u.DesktopTarget, "units.compute_target": u.ComputeTarget,
		"units.display_manager": u.DisplayManager, "units.studio_policy": u.StudioPolicy,
		"units.audio_priority": u.AudioPriority, "units.k3s": u.K3s,
	}
}

func (p Policy) durations() map[string]Duration {
	return map[string]Duration{
		"vllm.start_timeout": p.VLLM.StartTimeout, "vllm.drain_timeout": p.VLLM.DrainTimeout,
		"sessions.terminate_timeout": p.Sessions.TerminateTimeout, "sessions.kill_timeout": p.Sessions.KillTimeout,
		"sessions.end_timeout": p.Sessions.EndTimeout, "sessions.manager_timeout": p.Sessions.ManagerTimeout,
		"timeouts.unit": p.Timeouts.Unit, "timeouts.isolate": p.Timeouts.Isolate,
		"timeouts.gpu_release": p.Timeouts.GPURelease, "timeouts.verify": p.Timeouts.Verify,
		"timeouts.look": p.Timeouts.Look, "timeouts.recheck": p.Timeouts.Recheck,
		"gpu.recheck": p.GPU.Recheck,
	}
}

// loopback reports whether raw is an http URL with a loopback address, without a secret
// in it. The sandbox of the inference probe has no other network, a name could resolve
// to any address, and every user may read the policy.
func loopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback()
}
