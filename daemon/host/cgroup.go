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

// cgroups is the directory of the unified hierarchy (cgroups(7)).
type cgroups string

// controlFile is where the kernel shows a property.
type controlFile struct{ controller, name string }

var controlFiles = map[string]controlFile{
	policy.CPUWeight: {"cpu", "cpu.weight"}, policy.IOWeight: {"io", "io.weight"},
	policy.MemoryHigh: {"memory", "memory.high"}, policy.MemoryLow: {"memory", "memory.low"},
	policy.AllowedCPUs: {"cpuset", "cpuset.cpus"},
}

// read returns what the kernel has for a property of a control group, in the form
// of policy.Properties. hidden says why it shows nothing: it has not got the
// controller there, or not built in what the property is about.
func (c cgroups) read(group, property string) (value, hidden string, err error) {
	dir, file := filepath.Join(string(c), group), controlFiles[property]
	data, err := os.ReadFile(filepath.Join(dir, file.name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", c.missing(dir, file), nil
	}
	if err != nil {
		return "", "", fmt.Errorf("cannot read back %s: %w", property, err)
	}
	value, err = kernelWord(property, strings.TrimSpace(string(data)))
	return value, "", err
}

func (c cgroups) missing(dir string, file controlFile) string {
	enabled, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	switch {
	case err != nil:
		return fmt.Sprintf("%s is not there, and neither is its control group (%v)", file.name, err)
	case slices.Contains(strings.Fields(string(enabled)), file.controller):
		return fmt.Sprintf("this kernel has no %s", file.name)
	}
	return fmt.Sprintf("the controller %s is not enabled for its control group", file.controller)
}

// kernelWord turns what a file says into a word of policy.Properties. Beside its
// default, io.weight may have weights of single devices.
func kernelWord(property, text string) (string, error) {
	switch property {
	case policy.AllowedCPUs:
		mask, err := policy.ParseCPUs(text)
		if err != nil {
			return "", fmt.Errorf("the kernel's list is not as documented: %w", err)
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
		return "", fmt.Errorf("the kernel's %s is not as documented: %q", property, text)
	}
	return text, nil
}

// unsetWord is a property that nobody has given.
func unsetWord(property string) string {
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

// effective is what the kernel has for a value of systemd's: its own default for a
// weight that is not set, and whole pages.
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
