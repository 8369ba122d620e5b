package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/policy"
)

// cgroups is the mount point of the unified hierarchy (cgroups(7)).
type cgroups string

// controlFile is the file in which the kernel shows a property.
type controlFile struct{ controller, name string }

var controlFiles = map[string]controlFile{
	policy.CPUWeight: {"cpu", "cpu.weight"}, policy.IOWeight: {"io", "io.weight"},
	policy.MemoryHigh: {"memory", "memory.high"}, policy.MemoryLow: {"memory", "memory.low"},
	policy.AllowedCPUs: {"cpuset", "cpuset.cpus"},
}

// read returns the kernel's value of a property of a control group, in the form of
// policy.Properties. hidden is the reason why there is none: the controller is not
// enabled there, or the kernel is built without it.
func (c cgroups) read(group, property string) (value, hidden string, err error) {
	dir, file := filepath.Join(string(c), group), controlFiles[property]
	data, err := os.ReadFile(filepath.Join(dir, file.name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", c.missing(dir, file), nil
	}
	if err != nil {
		return "", "", fmt.Errorf("cannot read back %s: %w", property, err)
	}
	value, err = parseKernelValue(property, strings.TrimSpace(string(data)))
	return value, "", err
}

func (c cgroups) missing(dir string, file controlFile) string {
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	switch {
	case err != nil:
		return fmt.Sprintf("the control group of %s does not exist (%v)", file.name, err)
	case slices.Contains(strings.Fields(string(enabled)), file.controller):
		return fmt.Sprintf("this kernel does not provide %s", file.name)
	}
	return fmt.Sprintf("the controller %s is not enabled for its control group", file.controller)
}

// parseKernelValue converts the text of a control file into a value of policy.Properties.
// io.weight may have weights of single devices behind the default.
func parseKernelValue(property, text string) (string, error) {
	switch property {
	case policy.AllowedCPUs:
		mask, err := policy.ParseCPUs(text)
		if err != nil {
			return "", fmt.Errorf("cannot parse the kernel's %s: %w", property, err)
		}
		return policy.FormatCPUs(mask), nil
	case policy.IOWeight:
		text, _, _ = strings.Cut(text, "\n")
		text = strings.TrimPrefix(text, "default ")
	case policy.MemoryHigh, policy.MemoryLow:
		if text == "max" {
			return policy.Infinity, nil
		}
	}
	if _, err := strconv.ParseUint(text, 10, 64); err != nil {
		return "", fmt.Errorf("cannot parse the kernel's %s: %q", property, text)
	}
	return text, nil
}

// unsetValue is the value of a property that is not set.
func unsetValue(property string) string {
	switch property {
	case policy.MemoryHigh:
		return policy.Infinity
	case policy.MemoryLow:
		return "0"
	}
	return ""
}

// pageSize is what the kernel rounds memory down to.
var pageSize = uint64(os.Getpagesize())

// effective is the kernel's value for a value of systemd: the default of a weight that
// is not set, and memory in whole pages.
func effective(property, value string) string {
	switch property {
	case policy.CPUWeight, policy.IOWeight:
		if value == "" {
			return "100"
		}
	case policy.MemoryHigh, policy.MemoryLow:
		if bytes, err := strconv.ParseUint(value, 10, 64); err == nil {
			return strconv.FormatUint(bytes/pageSize*pageSize, 10)
		}
	}
	return value
}
