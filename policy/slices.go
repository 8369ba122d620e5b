package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Slices gives each mode's resource properties by slice: user.slice, ai.slice or
// any other. A property that a mode does not give is what it was before the first
// mode gave one.
type Slices struct {
	// Desktop are those of desktop. By default they are what the slices' own unit files
	// say, so that a desktop that came up by itself is like one that was asked for.
	Desktop map[string]Slice `toml:"desktop"`
	// StudioLocal are those of studio-local.
	StudioLocal map[string]Slice `toml:"studio-local"`
	// Compute are those of compute.
	Compute map[string]Slice `toml:"compute"`
}

// Of returns the slices of one mode.
func (s Slices) Of(m Mode) map[string]Slice {
	switch m {
	case Desktop:
		return s.Desktop
	case StudioLocal:
		return s.StudioLocal
	}
	return s.Compute
}

// Names lists every slice that a mode has properties for, sorted.
func (s Slices) Names() []string {
	var names []string
	for _, m := range Modes() {
		for name := range s.Of(m) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Slice is what a mode asks for one slice (systemd.resource-control(5)).
type Slice struct {
	// CPUWeight is the share of the processors, from 1 to 10000; 0 is not given.
	CPUWeight int `toml:"cpu_weight,omitempty" json:"cpu_weight,omitempty"`
	// IOWeight is the share of the disks, from 1 to 10000; 0 is not given.
	IOWeight int `toml:"io_weight,omitempty" json:"io_weight,omitempty"`
	// MemoryHigh is where the slice is throttled, like "12G"; empty is not given.
	MemoryHigh Memory `toml:"memory_high,omitempty" json:"memory_high,omitempty"`
	// MemoryLow is what is kept for the slice, like "2048M"; empty is not given.
	MemoryLow Memory `toml:"memory_low,omitempty" json:"memory_low,omitempty"`
	// AllowedCPUs are the processors that it may use, like "0-3,6"; empty is not given.
	AllowedCPUs CPUList `toml:"allowed_cpus,omitempty" json:"allowed_cpus,omitempty"`
}

// The properties of a slice that modes change, by systemd's names.
const (
	CPUWeight   = "CPUWeight"
	IOWeight    = "IOWeight"
	MemoryHigh  = "MemoryHigh"
	MemoryLow   = "MemoryLow"
	AllowedCPUs = "AllowedCPUs"
)

// Infinity is the word for no limit.
const Infinity = "infinity"

// Properties are a slice's by systemd's names, each in one form: a weight is a
// decimal number, memory is in bytes or Infinity, processors are a sorted list; a
// weight or a list that is not set is empty.
type Properties map[string]string

// Properties are those that the mode gives.
func (s Slice) Properties() Properties {
	p := Properties{}
	if s.CPUWeight != 0 {
		p[CPUWeight] = strconv.Itoa(s.CPUWeight)
	}
	if s.IOWeight != 0 {
		p[IOWeight] = strconv.Itoa(s.IOWeight)
	}
	if s.MemoryHigh != "" {
		p[MemoryHigh] = s.MemoryHigh.word()
	}
	if s.MemoryLow != "" {
		p[MemoryLow] = s.MemoryLow.word()
	}
	if s.AllowedCPUs != "" {
		mask, _ := ParseCPUs(string(s.AllowedCPUs)) // it was read by the same rule
		p[AllowedCPUs] = FormatCPUs(mask)
	}
	return p
}

// Memory is an amount as a file writes it: "512M", "12G", "1T", or "infinity".
// Empty is none given.
type Memory string

// UnmarshalText refuses what is not an amount. The units are systemd's, of 1024.
func (m *Memory) UnmarshalText(text []byte) error {
	if !isAmount(string(text)) {
		return fmt.Errorf("expected an amount of memory such as \"512M\", \"12G\" or \"infinity\", found %q", text)
	}
	*m = Memory(text)
	return nil
}

// word is the amount in bytes.
func (m Memory) word() string {
	if m == Infinity {
		return Infinity
	}
	last := len(m) - 1
	n, _ := strconv.ParseUint(string(m[:last]), 10, 64) // it is well formed
	return strconv.FormatUint(n<<map[byte]uint{'M': 20, 'G': 30, 'T': 40}[m[last]], 10)
}

// CPUList is a list of processors as a file writes it: "0-3,6". Empty is none
// given.
type CPUList string

// UnmarshalText refuses what is not a list of processors.
func (l *CPUList) UnmarshalText(text []byte) error {
	if _, err := ParseCPUs(string(text)); err != nil {
		return err
	}
	*l = CPUList(text)
	return nil
}

// maxCPUs is what the largest kernel is built for.
const maxCPUs = 8192

// ParseCPUs reads a list of processors as the kernel writes it (cpuset(7), "List
// format"): a bit for each, the first in the lowest of the first byte.
func ParseCPUs(list string) ([]byte, error) {
	var mask []byte
	if list == "" {
		return mask, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		last, lastErr := strconv.ParseUint(to, 10, 16)
		if err != nil || lastErr != nil || first > last || last >= maxCPUs {
			return nil, fmt.Errorf("expected a list of processors from 0 to %d such as \"0-3,6\", found %q", maxCPUs-1, list)
		}
		for cpu := first; cpu <= last; cpu++ {
			for uint64(len(mask)) <= cpu/8 {
				mask = append(mask, 0)
			}
			mask[cpu/8] |= 1 << (cpu % 8)
		}
	}
	return mask, nil
}

// FormatCPUs writes the list of which ParseCPUs gives the mask: sorted, and as
// short as it goes.
func FormatCPUs(mask []byte) string {
	var parts []string
	in := func(cpu int) bool { return cpu < 8*len(mask) && mask[cpu/8]&(1<<(cpu%8)) != 0 }
	for cpu := 0; cpu < 8*len(mask); cpu++ {
		if !in(cpu) {
			continue
		}
		first := cpu
		for in(cpu + 1) {
			cpu++
		}
		part := strconv.Itoa(first)
		if cpu > first {
			part += "-" + strconv.Itoa(cpu)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

func defaultSlices() Slices {
	weights := func(cpu, io int) Slice { return Slice{CPUWeight: cpu, IOWeight: io} }
	return Slices{
		Desktop: map[string]Slice{},
		StudioLocal: map[string]Slice{
			"user.slice": weights(400, 400), "interactive.slice": weights(800, 400),
			"ai.slice": weights(10, 10), "platform.slice": weights(20, 20),
		},
		Compute: map[string]Slice{
			"user.slice": weights(50, 50), "interactive.slice": weights(50, 50),
			"ai.slice": weights(800, 800), "platform.slice": weights(100, 100),
		},
	}
}

func (p Policy) sliceFaults(check checker) {
	for _, m := range Modes() {
		for name, s := range p.Slices.Of(m) {
			key := join("slices."+string(m), name)
			check(isSlice(name), key, "expected the name of a slice, found %q", name)
			for field, weight := range map[string]int{"cpu_weight": s.CPUWeight, "io_weight": s.IOWeight} {
				check(weight >= 0 && weight <= 10000, join(key, field), "must be from 1 to 10000, or 0 for none")
			}
			check(s.MemoryHigh == "" || s.MemoryHigh.word() != "0", join(key, "memory_high"), "must be greater than 0")
		}
	}
}

// Studio is what studio-local keeps quiet, and what audio-priority.service holds.
type Studio struct {
	// Quiesce are maintenance units that are stopped while studio-local lasts, and
	// then started again if they were up. A timer brings the service of its name.
	Quiesce []string `toml:"quiesce"`
	// CPUDMALatency is the longest that a processor may take to wake up, in
	// microseconds; -1 leaves it alone.
	CPUDMALatency int `toml:"cpu_dma_latency_us"`
	// Quantum is PipeWire's, in samples, forced for each person at a screen; 0 leaves
	// it alone.
	Quantum int `toml:"quantum"`
	// PowerProfile is held where a service for power profiles runs.
	PowerProfile PowerProfile `toml:"power_profile"`
}

// PowerProfile is one that can be held.
type PowerProfile string

// The power profiles.
const (
	ProfilePerformance PowerProfile = "performance"
	ProfileAlone       PowerProfile = "none" // it is left alone
)

// UnmarshalText refuses a word that is not a power profile to hold.
func (p *PowerProfile) UnmarshalText(text []byte) error {
	return oneOf(p, "power profile", text, ProfilePerformance, ProfileAlone)
}

func defaultStudio() Studio {
	return Studio{
		Quiesce: []string{
			"fstrim.timer", "nix-gc.timer", "nix-optimise.timer", "updatedb.timer", "update-locatedb.timer", "plocate-updatedb.timer",
			"btrfs-scrub.timer", "zfs-scrub.timer", "xfs_scrub_all.timer", "e2scrub_all.timer", "mdcheck_start.timer", "mdcheck_continue.timer",
		},
		PowerProfile: ProfilePerformance,
	}
}

// Units are what is to be quiet: the units of Quiesce and the services of its
// timers, what starts others before what is started.
func (s Studio) Units() []string {
	var first, services []string
	add := func(list *[]string, unit string) {
		if !slices.Contains(*list, unit) {
			*list = append(*list, unit)
		}
	}
	for _, unit := range s.Quiesce {
		if strings.HasSuffix(unit, ".service") {
			add(&services, unit)
			continue
		}
		add(&first, unit)
		if stem, ok := strings.CutSuffix(unit, ".timer"); ok {
			add(&services, stem+".service")
		}
	}
	return append(first, services...)
}

func (p Policy) studioFaults(check checker) {
	own := append(p.modeUnits(), p.Modes.StudioLocal.Required...)
	for i, unit := range p.Studio.Quiesce {
		key := element("studio.quiesce", i)
		check(isQuiescible(unit), key, "expected the name of a service, timer, path or socket, found %q", unit)
		for _, stopped := range (Studio{Quiesce: []string{unit}}).Units() {
			check(!slices.Contains(own, stopped), key, "%s is a unit of the modes", stopped)
		}
		check(!slices.Contains(p.Studio.Quiesce[:i], unit), key, duplicate, unit)
	}
	latency, quantum := p.Studio.CPUDMALatency, p.Studio.Quantum
	check(latency >= -1 && latency <= 1_000_000, "studio.cpu_dma_latency_us", "must be from 0 to 1000000, or -1")
	check(quantum == 0 || quantum >= 16 && quantum <= 8192, "studio.quantum", "must be from 16 to 8192, or 0")
}

// modeUnits are those that make up the modes, and the controller.
func (p Policy) modeUnits() []string {
	own := []string{"dubniumd.service", "graphical.target"}
	for _, unit := range p.Units.byKey() {
		own = append(own, unit)
	}
	own = append(own, p.VLLMUnits()...)
	for _, m := range Modes() {
		own = append(own, PrepareUnit(m))
	}
	return own
}
