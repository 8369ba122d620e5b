package policy

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// Thresholds is the section [guards]. A threshold of 0 disables its check.
type Thresholds struct {
	// MaxLoadPerCore bounds the load average of the last minute per core.
	MaxLoadPerCore float64 `toml:"max_load_per_core"`
	// MaxCPUPressure, MaxIOPressure and MaxMemoryPressure bound the pressure: the percentage
	// of the last ten seconds in which some task waited.
	MaxCPUPressure    float64 `toml:"max_cpu_pressure"`
	MaxIOPressure     float64 `toml:"max_io_pressure"`
	MaxMemoryPressure float64 `toml:"max_memory_pressure"`
	// MinMemoryMiB is how much memory must be available to enter each mode.
	MinMemoryMiB MemoryOf `toml:"min_memory_mib"`
	// Drain says whether vLLM may be drained while it serves requests.
	Drain DrainRule `toml:"drain"`
	// MaxWaiting bounds the requests in the queue of vLLM. A longer queue is not drained.
	MaxWaiting int `toml:"max_waiting"`
	// StudioLocal names optional guards to evaluate on the way from desktop to
	// studio-local.
	StudioLocal []GuardID `toml:"studio_local"`
	// Jobs are processes that must not be disturbed, RemoteJobs those that count in remote
	// sessions only, and NotJobs those that never count. See Pattern.
	Jobs       []Pattern `toml:"jobs"`
	RemoteJobs []Pattern `toml:"remote_jobs"`
	NotJobs    []Pattern `toml:"not_jobs"`
	// ModelStore is the directory of the models, which compute needs; empty means none.
	ModelStore string `toml:"model_store"`
	// MinFreeMiB must be free in the model store and in the state directory.
	MinFreeMiB int `toml:"min_free_mib"`
}

// MemoryOf is an amount of memory for each mode.
type MemoryOf struct {
	Desktop     int `toml:"desktop"`
	StudioLocal int `toml:"studio-local"`
	Compute     int `toml:"compute"`
}

// Of is the amount for one mode.
func (m MemoryOf) Of(mode Mode) int {
	switch mode {
	case Desktop:
		return m.Desktop
	case StudioLocal:
		return m.StudioLocal
	}
	return m.Compute
}

// DrainRule says whether a transition may wait for requests in flight.
type DrainRule string

// The drain rules.
const (
	DrainWait  DrainRule = "wait"  // up to vllm.drain_timeout
	DrainNever DrainRule = "never" // a vLLM that serves blocks the transition
)

// UnmarshalText rejects any other word.
func (r *DrainRule) UnmarshalText(text []byte) error {
	return oneOf(r, "drain rule", text, DrainWait, DrainNever)
}

// Pattern matches processes; * stands for any text. It is compared with the name of the
// command, of which the kernel keeps 15 bytes. A pattern with a space is also compared
// with the command line, whose first word is taken without its directory.
type Pattern string

// Matches reports whether the pattern matches a process. line has its arguments, separated
// by spaces.
func (p Pattern) Matches(name, line string) bool {
	if glob(string(p), name) {
		return true
	}
	if !strings.Contains(string(p), " ") {
		return false
	}
	first, rest, more := strings.Cut(line, " ")
	first = filepath.Base(first)
	if more {
		first += " " + rest
	}
	return glob(string(p), first)
}

// glob takes linear time for each star, whatever the text: command lines are not trusted.
func glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return strings.HasSuffix(text, last)
}

// JobPattern returns the pattern by which a process is a job, whether the pattern is for
// remote sessions only, and whether there is one.
func (t Thresholds) JobPattern(name, line string) (p Pattern, remote, found bool) {
	matches := func(p Pattern) bool { return p.Matches(name, line) }
	if slices.ContainsFunc(t.NotJobs, matches) {
		return "", false, false
	}
	if i := slices.IndexFunc(t.Jobs, matches); i >= 0 {
		return t.Jobs[i], false, true
	}
	if i := slices.IndexFunc(t.RemoteJobs, matches); i >= 0 {
		return t.RemoteJobs[i], true, true
	}
	return "", false, false
}

// Directories lists the directories that must exist and have free space.
func (p Policy) Directories() []string {
	if p.Guards.ModelStore == "" {
		return []string{p.Paths.State}
	}
	return []string{p.Paths.State, p.Guards.ModelStore}
}

// Placement is the section [placement]: which machine has which capability.
type Placement struct {
	Studio Place `toml:"studio"`
	AI     Place `toml:"ai"`
}

// Places returns the placement by the names of the capabilities.
func (p Placement) Places() map[string]Place {
	return map[string]Place{"studio": p.Studio, "ai": p.AI}
}

// Place is the machine that has a capability.
type Place string

// The places.
const (
	Local  Place = "local"
	Remote Place = "remote" // another machine has it
)

// UnmarshalText rejects any other word.
func (p *Place) UnmarshalText(text []byte) error {
	return oneOf(p, "place", text, Local, Remote)
}

// optionalGuards are the guards that guards.studio_local may name, in order.
var optionalGuards = []GuardID{CheckGraphicalSessionPresent, CheckUserJobsSafe, CheckMemoryHeadroom}

// Chosen reports whether guards.studio_local names a guard.
func (t Thresholds) Chosen(id GuardID) bool { return slices.Contains(t.StudioLocal, id) }

// defaultThresholds block what certainly hurts and pass everyday use.
func defaultThresholds() Thresholds {
	return Thresholds{
		MaxLoadPerCore: 4, MaxCPUPressure: 95, MaxIOPressure: 80, MaxMemoryPressure: 40,
		MinMemoryMiB: MemoryOf{Desktop: 256, StudioLocal: 512, Compute: 512},
		Drain:        DrainWait, MaxWaiting: 64,
		StudioLocal: []GuardID{CheckGraphicalSessionPresent, CheckMemoryHeadroom},
		Jobs: []Pattern{
			"cc1", "cc1plus", "clang", "clang++", "clang* -cc1 *", "rustc", "ghc", "compile -o *", "ld", "ld.*", "mold",
			"make", "gmake", "ninja", "cmake --build*", "cargo", "bazel",
			"nixos-rebuild", "nixos-rebuild *", ".nixos-rebuild*", "*switch-to-configuration *", "nix build*",
			"nix-build", "nix-build *", "apt", "apt-get", "aptitude", "dpkg", "rsync", "ffmpeg", ".ffmpeg-wrapped",
		},
		RemoteJobs: []Pattern{"tmux: server", "screen"},
		NotJobs:    []Pattern{"rsync *--daemon*"},
		MinFreeMiB: 32,
	}
}

func (p Policy) guardFaults(check checker) {
	g := p.Guards
	check(g.MaxLoadPerCore >= 0 && g.MaxLoadPerCore <= 1000, "guards.max_load_per_core", "must be from 0 to 1000")
	for key, percent := range map[string]float64{
		"guards.max_cpu_pressure": g.MaxCPUPressure, "guards.max_io_pressure": g.MaxIOPressure,
		"guards.max_memory_pressure": g.MaxMemoryPressure,
	} {
		check(percent >= 0 && percent <= 100, key, "must be from 0 to 100")
	}
	for key, n := range map[string]int{
		"guards.min_memory_mib.desktop":      g.MinMemoryMiB.Desktop,
		"guards.min_memory_mib.studio-local": g.MinMemoryMiB.StudioLocal,
		"guards.min_memory_mib.compute":      g.MinMemoryMiB.Compute,
		"guards.max_waiting":                 g.MaxWaiting,
		"guards.min_free_mib":                g.MinFreeMiB,
	} {
		check(n >= 0 && n <= math.MaxInt32, key, "must be from 0 to %d", math.MaxInt32)
	}
	for _, id := range g.StudioLocal {
		check(slices.Contains(optionalGuards, id), "guards.studio_local",
			"unknown guard %q: expected one of %s", id, words(optionalGuards))
	}
	for key, list := range map[string][]Pattern{
		"guards.jobs": g.Jobs, "guards.remote_jobs": g.RemoteJobs, "guards.not_jobs": g.NotJobs, "audio.daws": p.Audio.DAWs,
	} {
		for i, pattern := range list {
			at := element(key, i)
			check(pattern != "" && isLine(string(pattern)), at,
				"expected a pattern of 1 to 200 printable characters, found %q", pattern)
			check(strings.Trim(string(pattern), "* ") != "", at, "%q matches every process", pattern)
		}
	}
	check(g.ModelStore == "" || cleanPath(g.ModelStore),
		"guards.model_store", notClean, g.ModelStore)
	check(!beneath(g.ModelStore, store), "guards.model_store", "%s is in the Nix store, which is read-only", g.ModelStore)
}
