package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Slices has the resource properties of each mode by slice: user.slice, ai.slice or any
// other. A property that a mode does not set has the value from before a mode set it
// first.
type Slices struct {
	// Desktop has the slices of desktop. The default is none, so that a desktop after a boot
	// and one that was requested have the same values, those of the unit files.
	Desktop map[string]Slice `toml:"desktop"`
	// StudioLocal has the slices of studio-local.
	StudioLocal map[string]Slice `toml:"studio-local"`
	// Compute has the slices of compute.
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

// Names lists the slices of all modes, sorted.
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

// Slice has the properties of one slice in a mode (systemd.resource-control(5)).
type Slice struct {
	// CPUWeight is the share of the processors, from 1 to 10000; 0 means not set.
	CPUWeight int `toml:"cpu_weight,omitempty" json:"cpu_weight,omitempty"`
	// IOWeight is the share of the disks, from 1 to 10000; 0 means not set.
	IOWeight int `toml:"io_weight,omitempty" json:"io_weight,omitempty"`
	// MemoryHigh is the limit above which the slice is throttled, such as "12G"; empty
	// means not set.
	MemoryHigh Memory `toml:"memory_high,omitempty" json:"memory_high,omitempty"`
	// MemoryLow is the memory protected for the slice, such as "2048M"; empty means not
	// set.
	MemoryLow Memory `toml:"memory_low,omitempty" json:"memory_low,omitempty"`
	// AllowedCPUs are the processors that the slice may use, such as "0-3,6"; empty means
	// not set.
	AllowedCPUs CPUList `toml:"allowed_cpus,omitempty" json:"allowed_cpus,omitempty"`
}

// The properties of a slice that modes change, by their systemd names.
const (
	CPUWeight   = "CPUWeight"
	IOWeight    = "IOWeight"
	MemoryHigh  = "MemoryHigh"
	MemoryLow   = "MemoryLow"
	AllowedCPUs = "AllowedCPUs"
)

// Infinity is the word for no limit.
const Infinity = "infinity"

// Properties are those of a slice by their systemd names, in normal form: a weight is a
// decimal number, memory is in bytes or Infinity, processors are a sorted list. A weight
// or a list that is not set is empty.
type Properties map[string]string

// Properties returns the properties that the mode sets.
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
		mask, _ := ParseCPUs(string(s.AllowedCPUs)) // UnmarshalText has checked it
		p[AllowedCPUs] = FormatCPUs(mask)
	}
	return p
}

// Memory is an amount as a file has it: "512M", "12G", "1T" or "infinity"; empty means
// not set.
type Memory string

// UnmarshalText rejects any other form. The units are powers of 1024, as in systemd.
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
	n, _ := strconv.ParseUint(string(m[:last]), 10, 64) // UnmarshalText has checked it
	return strconv.FormatUint(n<<map[byte]uint{'M': 20, 'G': 30, 'T': 40}[m[last]], 10)
}

// CPUList is a list of processors as a file has it: "0-3,6"; empty means not set.
type CPUList string

// UnmarshalText rejects what is not a list of processors.
func (l *CPUList) UnmarshalText(text []byte) error {
	if _, err := ParseCPUs(string(text)); err != nil {
		return err
	}
	*l = CPUList(text)
	return nil
}

// maxCPUs is the largest NR_CPUS of the kernel.
const maxCPUs = 8192

// ParseCPUs reads a list of processors in the list format of cpuset(7). The mask has a
// bit for each processor, the first one in the lowest bit of the first byte.
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

// FormatCPUs is the inverse of ParseCPUs. The list is sorted and as short as possible.
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

// Studio says what studio-local stops, and what audio-priority.service holds.
type Studio struct {
	// Quiesce are maintenance units that are stopped during studio-local, and started again
	// afterwards if they ran. A timer includes the service of its name.
	Quiesce []string `toml:"quiesce"`
	// CPUDMALatency is the longest wake-up time of the processors in microseconds; -1
	// leaves it unchanged.
	CPUDMALatency int `toml:"cpu_dma_latency_us"`
	// Quantum is the quantum of PipeWire in samples, forced for each graphical user; 0
	// leaves it unchanged.
	Quantum int `toml:"quantum"`
	// PowerProfile is held if the host has a service for power profiles.
	PowerProfile PowerProfile `toml:"power_profile"`
}

// PowerProfile is a power profile to hold.
type PowerProfile string

// The power profiles.
const (
	ProfilePerformance PowerProfile = "performance"
	ProfileAlone       PowerProfile = "none" // leave it unchanged
)

// UnmarshalText rejects any other word.
func (p *PowerProfile) UnmarshalText(text []byte) error {
	return oneOf(p, "power profile", text, ProfilePerformance, ProfileAlone)
}

func defaultStudio() Studio {
	return Studio{
		Quiesce: []string{
			"fstrim.timer", "nix-gc.timer", "nix-optimise.timer",
			"updatedb.timer", "update-locatedb.timer", "plocate-updatedb.timer",
			"btrfs-scrub.timer", "zfs-scrub.timer", "xfs_scrub_all.timer", "e2scrub_all.timer",
			"mdcheck_start.timer", "mdcheck_continue.timer",
		},
		PowerProfile: ProfilePerformance,
	}
}

// Units lists the units to stop: those of Quiesce and the services of its timers. Units
// that start others come before the services.
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
		check(isQuiescible(unit), key,
			"expected the name of a service, timer, path or socket, found %q", unit)
		for _, stopped := range (Studio{Quiesce: []string{unit}}).Units() {
			check(!slices.Contains(own, stopped), key, "%s is a unit of the modes", stopped)
		}
		check(!slices.Contains(p.Studio.Quiesce[:i], unit), key, duplicate, unit)
	}
	latency, quantum := p.Studio.CPUDMALatency, p.Studio.Quantum
	check(latency >= -1 && latency <= 1_000_000, "studio.cpu_dma_latency_us", "must be from 0 to 1000000, or -1")
	check(quantum == 0 || quantum >= 16 && quantum <= 8192, "studio.quantum", "must be from 16 to 8192, or 0")
}

// modeUnits are the units of the modes and of the controller.
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
