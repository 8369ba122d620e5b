package policy

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// Thresholds is the section [guards]: what the guards judge by. A threshold of 0
// is one that is not judged.
type Thresholds struct {
	// MaxLoadPerCore bounds the load average of the last minute, for each core.
	MaxLoadPerCore float64 `toml:"max_load_per_core"`
	// MaxCPUPressure, MaxIOPressure and MaxMemoryPressure bound the share of the
	// last ten seconds, in percent, in which some task had to wait.
	MaxCPUPressure    float64 `toml:"max_cpu_pressure"`
	MaxIOPressure     float64 `toml:"max_io_pressure"`
	MaxMemoryPressure float64 `toml:"max_memory_pressure"`
	// MinMemoryMiB is how much memory has to be available for each mode.
	MinMemoryMiB MemoryOf `toml:"min_memory_mib"`
	// Drain says whether vLLM may be drained at all while it serves.
	Drain DrainRule `toml:"drain"`
	// MaxWaiting bounds the requests in vLLM's queue: above it more comes in than a
	// drain gets done.
	MaxWaiting int `toml:"max_waiting"`
	// StudioLocal names the guards that are judged on the way from desktop to
	// studio-local beside those that always are.
	StudioLocal []GuardID `toml:"studio_local"`
	// Jobs are the processes that must not be disturbed, RemoteJobs those that count
	// only in a remote session, NotJobs those that never do. See Pattern.
	Jobs       []Pattern `toml:"jobs"`
	RemoteJobs []Pattern `toml:"remote_jobs"`
	NotJobs    []Pattern `toml:"not_jobs"`
	// ModelStore is the directory of the models; empty: nobody asks about it.
	ModelStore string `toml:"model_store"`
	// MinFreeMiB has to be free where the models are and where the daemon writes.
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

// DrainRule says whether requests in flight may be waited for.
type DrainRule string

// The drain rules.
const (
	DrainWait  DrainRule = "wait"  // for as long as vllm.drain_timeout
	DrainNever DrainRule = "never" // a vLLM that serves is left alone
)

// UnmarshalText refuses a word that is not a drain rule.
func (r *DrainRule) UnmarshalText(text []byte) error {
	return oneOf(r, "drain rule", text, DrainWait, DrainNever)
}

// Pattern names processes; * stands for anything. It is for the name of the
// command, of which the kernel keeps 15 bytes; one with a space in it is also for
// the whole command line, whose first word is taken without its directory.
type Pattern string

// Matches reports whether a process is meant. line is its arguments with a space
// between.
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

// glob takes time that is linear in each star, whatever the text is made of: a
// command line is a stranger's.
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

// JobPattern returns the pattern by which a process counts as a job, whether that
// is one for remote sessions only, and whether there is any.
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

// Stores lists the directories that have to be there and take what is written.
func (p Policy) Stores() []string {
	if p.Guards.ModelStore == "" {
		return []string{p.Paths.State}
	}
	return []string{p.Paths.State, p.Guards.ModelStore}
}

// Placement is the section [placement]: which machine does what.
type Placement struct {
	Studio Place `toml:"studio"`
	AI     Place `toml:"ai"`
}

// Places are the placement by the names of the capabilities.
func (p Placement) Places() map[string]Place {
	return map[string]Place{"studio": p.Studio, "ai": p.AI}
}

// Place is where a capability is.
type Place string

// The places.
const (
	Local  Place = "local"
	Remote Place = "remote" // another machine has it
)

// UnmarshalText refuses a word that is not a place.
func (p *Place) UnmarshalText(text []byte) error {
	return oneOf(p, "place", text, Local, Remote)
}

// optionalGuards are those that a policy chooses on the way to studio-local, in
// the order in which they are judged.
var optionalGuards = []GuardID{CheckGraphicalSessionPresent, CheckUserJobsSafe, CheckMemoryHeadroom}

// Chosen reports whether the policy asks for a guard on the way to studio-local.
func (t Thresholds) Chosen(id GuardID) bool { return slices.Contains(t.StudioLocal, id) }

// defaultThresholds judge what is certain to hurt and let pass what a workstation
// does all day.
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

func (p Policy) guardFaults(fault checker) {
	g := p.Guards
	fault(g.MaxLoadPerCore >= 0 && g.MaxLoadPerCore <= 1000, "guards.max_load_per_core", "must be from 0 to 1000")
	for key, percent := range map[string]float64{
		"guards.max_cpu_pressure": g.MaxCPUPressure, "guards.max_io_pressure": g.MaxIOPressure, "guards.max_memory_pressure": g.MaxMemoryPressure,
	} {
		fault(percent >= 0 && percent <= 100, key, "must be from 0 to 100")
	}
	for key, n := range map[string]int{
		"guards.min_memory_mib.desktop": g.MinMemoryMiB.Desktop, "guards.min_memory_mib.studio-local": g.MinMemoryMiB.StudioLocal,
		"guards.min_memory_mib.compute": g.MinMemoryMiB.Compute, "guards.max_waiting": g.MaxWaiting, "guards.min_free_mib": g.MinFreeMiB,
	} {
		fault(n >= 0 && n <= math.MaxInt32, key, "must be from 0 to %d", math.MaxInt32)
	}
	for _, id := range g.StudioLocal {
		fault(slices.Contains(optionalGuards, id), "guards.studio_local", "unknown guard %q: expected one of %s", id, words(optionalGuards))
	}
	for key, list := range map[string][]Pattern{
		"guards.jobs": g.Jobs, "guards.remote_jobs": g.RemoteJobs, "guards.not_jobs": g.NotJobs, "audio.daws": p.Audio.DAWs,
	} {
		for i, pattern := range list {
			at := element(key, i)
			fault(pattern != "" && isLine(string(pattern)), at, "expected a pattern of 1 to 200 printable characters, found %q", pattern)
			fault(strings.Trim(string(pattern), "* ") != "", at, "%q matches every process", pattern)
		}
	}
	fault(g.ModelStore == "" || cleanPath(g.ModelStore),
		"guards.model_store", notClean, g.ModelStore)
	fault(!beneath(g.ModelStore, store), "guards.model_store", "%s is in the Nix store, which is read-only", g.ModelStore)
}
