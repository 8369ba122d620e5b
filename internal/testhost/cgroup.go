package testhost

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/internal/testhost/sim"
	"github.com/dubnium/dubnium/policy"
)

// cgroup shows what a slice has in the unified hierarchy, as a kernel with every
// controller does (Documentation/admin-guide/cgroup-v2.rst).
func (t *tree) cgroup(u sim.UnitStatus) {
	if u.ControlGroup == "" || sim.TypeOf(u.Name) != "slice" {
		return
	}
	dir := "sys/fs/cgroup" + u.ControlGroup + "/"
	number := func(name, unset string) string {
		if v := u.Settings[name].(uint64); v != math.MaxUint64 {
			return strconv.FormatUint(v, 10)
		}
		return unset
	}
	for name, content := range map[string]string{
		"cgroup.controllers": "cpuset cpu io memory pids",
		"cpu.weight":         number("CPUWeight", "100"),
		"io.weight":          "default " + number("IOWeight", "100"),
		"memory.high":        number("MemoryHigh", "max"),
		"memory.low":         number("MemoryLow", "max"),
		"cpuset.cpus":        policy.FormatCPUs(u.Settings["AllowedCPUs"].([]byte)),
	} {
		t.write(dir+name, content+"\n")
	}
}

// Cgroup reads a file of a slice's control group: its lines, without the last's
// end.
func (h *Host) Cgroup(slice, file string) (string, error) {
	u, err := h.Unit(slice)
	if err != nil {
		return "", err
	}
	if u.ControlGroup == "" {
		return "", fmt.Errorf("nothing is in %s", slice)
	}
	data, err := h.ReadFile("sys/fs/cgroup" + u.ControlGroup + "/" + file)
	return strings.TrimSuffix(data, "\n"), err
}
