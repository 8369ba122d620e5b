package policy

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Load reads the policy file at path. A file that does not exist is the empty
// policy, so that a fresh install observes honestly before anyone writes one.
// Errors: the file cannot be read, is not TOML, has keys or values the schema
// does not know, or makes no sense; all findings of one kind are reported at
// once, a line each, with file, line and column where the file has one.
func Load(path string) (Policy, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Default(), nil
	}
	if err != nil {
		return Policy{}, fmt.Errorf("cannot read the policy: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a policy from data; name stands for the file in errors.
func Parse(name string, data []byte) (Policy, error) {
	p := Default()
	decoder := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return Policy{}, decodeError(name, err)
	}
	if faults := p.faults(); len(faults) > 0 {
		return Policy{}, fmt.Errorf("cannot use the policy:\n%s: %s", name, strings.Join(faults, "\n"+name+": "))
	}
	return p, nil
}

// TOML writes the policy as Parse reads it, every key included.
func (p Policy) TOML() (string, error) {
	data, err := toml.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("cannot write the policy: %w", err)
	}
	return string(data), nil
}

// decodeError turns the decoder's errors into lines of file:line:column.
func decodeError(name string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		lines := make([]string, len(unknown.Errors))
		for i, e := range unknown.Errors {
			row, col := e.Position()
			lines[i] = fmt.Sprintf("%s:%d:%d: unknown key %s", name, row, col, strings.Join(e.Key(), "."))
		}
		return fmt.Errorf("cannot use the policy:\n%s", strings.Join(lines, "\n"))
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		row, col := wrong.Position()
		at := ""
		if key := strings.Join(wrong.Key(), "."); key != "" {
			at = key + ": "
		}
		return fmt.Errorf("cannot use the policy:\n%s:%d:%d: %s%s", name, row, col, at, strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	return fmt.Errorf("cannot use the policy:\n%s: %w", name, err)
}

var (
	pciAddress  = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	profileName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	unitName    = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|target|slice|socket|timer)$`)
)

// faults lists what the schema cannot see: values of the right type that make
// no sense on any host.
func (p Policy) faults() []string {
	var faults []string
	fault := func(ok bool, key, format string, args ...any) {
		if !ok {
			faults = append(faults, key+": "+fmt.Sprintf(format, args...))
		}
	}
	fault(p.DefaultMode != Compute, "default_mode", "a host does not boot to compute: ask for it once it is up")
	for key, dir := range map[string]string{
		"paths.runtime": p.Paths.Runtime, "paths.state": p.Paths.State, "paths.probes": p.Paths.Probes,
	} {
		fault(filepath.IsAbs(dir) && filepath.Clean(dir) == dir && dir != "/", key, "%q is not a clean absolute path", dir)
	}
	for key, unit := range p.Units.byKey() {
		fault(unitName.MatchString(unit), key, "%q is not the name of a unit", unit)
	}
	for name, unit := range p.VLLM.Profiles {
		key := "vllm.profiles." + name
		fault(unitName.MatchString(unit), key, "%q is not the name of a unit", unit)
		fault(profileName.MatchString(name), key, "a profile's name is of letters, digits, - and _")
		fault(name != ProfileOff && name != ProfileDefault, key, "this word is for vLLM that runs in no profile")
	}
	for key, target := range map[string]string{
		"units.desktop_target": p.Units.DesktopTarget, "units.compute_target": p.Units.ComputeTarget,
	} {
		fault(strings.HasSuffix(target, ".target"), key, "%q is not a target", target)
	}
	fault(p.Units.DesktopTarget != p.Units.ComputeTarget, "units.compute_target", "it is the desktop target too")
	for key, list := range map[string][]string{
		"gpu.display": p.GPU.Display, "gpu.ai": p.GPU.AI, "gpu.planned": p.GPU.Planned,
	} {
		for _, pci := range list {
			fault(pciAddress.MatchString(pci), key, "%q is not a PCI address like 0000:01:00.0", pci)
		}
	}
	fault(p.GPU.ResidualMiB >= 0, "gpu.residual_mib", "%d is less than nothing", p.GPU.ResidualMiB)
	fault(loopback(p.VLLM.HealthURL), "vllm.health_url", "%q is not an http URL on a loopback address", p.VLLM.HealthURL)
	fault(loopback(p.VLLM.MetricsURL), "vllm.metrics_url", "%q is not an http URL on a loopback address", p.VLLM.MetricsURL)
	for key, d := range p.durations() {
		fault(d > 0, key, "%s is not more than zero", d.D())
	}
	p.guardFaults(fault)
	slices.Sort(faults)
	return faults
}

func (u Units) byKey() map[string]string {
	return map[string]string{
		"units.desktop_target": u.DesktopTarget, "units.compute_target": u.ComputeTarget,
		"units.display_manager": u.DisplayManager, "units.vllm": u.VLLM,
		"units.studio_policy": u.StudioPolicy, "units.audio_priority": u.AudioPriority, "units.k3s": u.K3s,
	}
}

func (p Policy) durations() map[string]Duration {
	return map[string]Duration{
		"vllm.start_timeout": p.VLLM.StartTimeout, "vllm.drain_timeout": p.VLLM.DrainTimeout,
		"sessions.terminate_timeout": p.Sessions.TerminateTimeout, "sessions.kill_timeout": p.Sessions.KillTimeout,
		"timeouts.unit": p.Timeouts.Unit, "timeouts.isolate": p.Timeouts.Isolate,
		"timeouts.gpu_release": p.Timeouts.GPURelease, "timeouts.verify": p.Timeouts.Verify,
		"timeouts.look": p.Timeouts.Look, "timeouts.recheck": p.Timeouts.Recheck,
		"gpu.recheck": p.GPU.Recheck,
	}
}

// loopback reports whether raw is an http URL that cannot leave the machine:
// the inference probe's sandbox has no other network, and a name could resolve
// to anything.
func loopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback()
}
