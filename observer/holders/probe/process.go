package probe

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dubnium/dubnium/observer"
)

// Identify says who a process is, for a probe that knows of it from elsewhere. Of
// a holder it leaves out what is held.
func Identify(proc string, pid int) (observer.Holder, error) {
	name, err := command(proc, pid)
	if err != nil {
		return observer.Holder{}, err
	}
	uid, err := userOf(proc, pid)
	if err != nil {
		return observer.Holder{}, err
	}
	where, err := placeIn(proc, pid)
	if gone(err) {
		return observer.Holder{}, err
	}
	return observer.Holder{
		PID: pid, Command: name, UID: uid,
		Unit: where.unit, Slices: where.slices, Session: where.session,
	}, nil
}

// who says who a process is, and whether it is still there. One that is there and
// cannot be told is nobody's, and permitted to do nothing.
func who(proc string, pid int) (is observer.Holder, there bool) {
	is, err := Identify(proc, pid)
	if err != nil {
		is = observer.Holder{PID: pid, Command: "unknown", Slices: []string{}}
	}
	return is, !gone(err)
}

// plain is who a process is without its slices.
func plain(h observer.Holder) observer.Process {
	return observer.Process{PID: h.PID, Command: h.Command, UID: h.UID, Unit: h.Unit, Session: h.Session}
}

// placeIn says where a process stands. What cannot be read is nowhere: a user can nest
// their control groups until the path is too long for the kernel, which then cuts it
// or, before Linux 6.8, says ENAMETOOLONG.
func placeIn(proc string, pid int) (place, error) {
	text, err := read(filepath.Join(proc, strconv.Itoa(pid), "cgroup"), maxCgroup)
	if err != nil {
		return place{slices: []string{}}, err
	}
	return placeOf(string(text)), nil
}

// userOf is the real user id. The owner of /proc/PID will not do: it is root for
// every process that is not dumpable (proc(5)).
func userOf(proc string, pid int) (uint32, error) {
	text, err := status(proc, pid)
	if err != nil {
		return 0, err
	}
	uid, err := realUser(text)
	if err != nil {
		return 0, fmt.Errorf("cannot read the user of pid %d: %w", pid, err)
	}
	return uid, nil
}

func realUser(status []byte) (uint32, error) {
	ids := strings.Fields(field(status, "Uid"))
	if len(ids) == 0 {
		return 0, errors.New("no Uid line in its status")
	}
	uid, err := strconv.ParseUint(ids[0], 10, 32)
	return uint32(uid), err
}

// The kernel's limits: status has what we look for in front of the list of groups,
// which may be long; a cgroup file has a path of 4096 bytes for each hierarchy.
const (
	maxStatus = 4096
	maxCgroup = 1 << 16
)

func status(proc string, pid int) ([]byte, error) {
	return read(filepath.Join(proc, strconv.Itoa(pid), "status"), maxStatus)
}

// field returns the value of a line of a status file. The kernel escapes line breaks
// in the name of a process, which is the only part that others choose.
func field(status []byte, key string) string {
	for line := range bytes.Lines(status) {
		if name, value, found := bytes.Cut(line, []byte{':'}); found && string(name) == key {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
