package probe

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/policy"
)

// Jobs lists the processes that policy calls somebody's work. A process that may
// not be read could be one, so that then nothing is told.
func Jobs(proc string, t policy.Thresholds) observer.Jobs {
	pids, err := processes(proc)
	if err != nil {
		return observer.Jobs{Reason: err.Error()}
	}
	jobs := observer.Jobs{Told: true, List: []observer.Job{}}
	for _, pid := range pids {
		job, is, err := jobOf(proc, pid, t)
		switch {
		case gone(err):
		case errors.Is(err, fs.ErrPermission):
			return observer.Jobs{Reason: "the holders probe may not see what pid " + strconv.Itoa(pid) + " is"}
		case err != nil:
			return observer.Jobs{Reason: err.Error()}
		case is && len(jobs.List) == holders.MaxJobs:
			jobs.More++
		case is:
			jobs.List = append(jobs.List, job)
		}
	}
	return jobs
}

func jobOf(proc string, pid int, t policy.Thresholds) (job observer.Job, is bool, err error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	name, err := command(proc, pid)
	if err != nil {
		return job, false, err
	}
	line, err := commandLine(dir)
	if err != nil {
		return job, false, err
	}
	pattern, remote, is := t.JobPattern(name, line)
	if !is {
		return job, false, nil
	}
	who, err := processOf(proc, pid)
	return observer.Job{Process: who, Pattern: string(pattern), Remote: remote}, true, err
}

// maxLine is as much of a command line as a pattern is compared with: one has up to
// megabytes.
const maxLine = 4096

// commandLine is the arguments with a space between. A kernel thread and a process
// that has ended have none.
func commandLine(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, "cmdline"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	line, err := io.ReadAll(io.LimitReader(f, maxLine))
	return string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '})), err
}
