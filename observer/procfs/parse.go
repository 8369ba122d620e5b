package procfs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Every parser takes the beginning of a file and returns one number. A number that is out of range
// is an error.

var errFormat = errors.New("a value is missing or invalid")

// load1 reads the load average of the last minute: "0.20 0.18 0.12 1/512 4242".
func load1(text string) (float64, error) {
	first, _, more := strings.Cut(text, " ")
	if !more {
		return 0, errFormat
	}
	return number(first)
}

// online counts the processors that are online: the lines cpu0, cpu1, ... of /proc/stat.
func online(text string) (float64, error) {
	count := 0.0
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, " ")
		digits, isCPU := strings.CutPrefix(name, "cpu")
		if !isCPU {
			break
		}
		if _, err := strconv.ParseUint(digits, 10, 16); err == nil {
			count++
		}
	}
	if count == 0 {
		return 0, errFormat
	}
	return count, nil
}

// someAvg10 reads "some avg10=0.00 avg60=..." (Documentation/accounting/psi.rst).
func someAvg10(text string) (float64, error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "some" {
			continue
		}
		for _, f := range fields[1:] {
			if value, found := strings.CutPrefix(f, "avg10="); found {
				return percent(value)
			}
		}
	}
	return 0, errFormat
}

func percent(text string) (float64, error) {
	n, err := number(text)
	if err == nil && n > 100 {
		return 0, errFormat
	}
	return n, err
}

// meminfo reads one row of /proc/meminfo, "MemTotal:  65536000 kB", in bytes.
func meminfo(text, key string) (float64, error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != key+":" {
			continue
		}
		n, err := number(fields[1])
		if fields[2] != "kB" {
			return 0, errFormat
		}
		return n * 1024, err
	}
	return 0, fmt.Errorf("it has no %s", key)
}

// number parses a number as the kernel prints it: digits with a decimal point.
func number(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n > 1e18 || strings.ContainsAny(text, "_xXpPeE+-") {
		return 0, errFormat
	}
	return n, nil
}
