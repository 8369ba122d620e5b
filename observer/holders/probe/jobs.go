package probe

import (
	"bytes"
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/policy"
)

// Jobs lists the processes that match a job pattern of the policy, and those whose command line could
// not be read. To read one the kernel needs the lock of the memory of the process, which the process
// can hold for any time.
func (p *Probe) Jobs(ctx context.Context, t policy.Thresholds) observer.Jobs {
	pids, err := processes(p.roots.Proc)
	if err != nil {
		return observer.Jobs{Reason: err.Error()}
	}
	read := func(ctx context.Context, turn *turn[observer.Job], pids []int) {
		for _, pid := range pids {
			visited := turn.visit(ctx, pid, func() (observer.Job, bool) {
				job, err := p.jobOf(pid, t)
				return job, err == nil || gone(err)
			})
			if !visited {
				return
			}
		}
	}
	found := p.lines.run(ctx, accounts(p.roots.Proc, pids), read)
	jobs := observer.Jobs{Complete: true, List: []observer.Job{}}
	groups, sizes, left := map[string][]observer.Job{}, map[string]int{}, map[account][]int{}
	for of, f := range found {
		for _, pid := range f.pids {
			switch job, ok := f.results[pid]; {
			case !ok:
				left[of] = append(left[of], pid)
			case job.PID > 0:
				groups[string(of)] = append(groups[string(of)], job)
				sizes[string(of)]++
			}
		}
	}
	room := share(sizes, holders.MaxJobs)
	for of, group := range groups {
		p.listJobs(&jobs, group, room[of])
	}
	slices.SortFunc(jobs.List, func(a, b observer.Job) int { return cmp.Compare(a.PID, b.PID) })
	jobs.Unread, jobs.MoreUnread = unseen(p.roots.Proc, left)
	return jobs
}

// listJobs identifies and adds the first jobs of one account, and counts the rest.
func (p *Probe) listJobs(jobs *observer.Jobs, group []observer.Job, room int) {
	for i, job := range group {
		if room == 0 {
			jobs.Truncated += len(group) - i
			return
		}
		if h, exists := identify(p.roots.Proc, job.PID); exists {
			job.Process = processOf(h)
			jobs.List = append(jobs.List, job)
			room--
		}
	}
}

// jobOf compares a process with the job patterns. The result has no identity but the pid, which is 0
// if no pattern matches.
func (p *Probe) jobOf(pid int, t policy.Thresholds) (job observer.Job, err error) {
	name, err := command(p.roots.Proc, pid)
	if err != nil {
		return job, err
	}
	line, err := commandLine(p.roots.Proc, pid)
	if err != nil {
		return job, err
	}
	if pattern, remote, ok := t.JobPattern(name, line); ok {
		job.PID, job.Pattern, job.Remote = pid, string(pattern), remote
	}
	return job, nil
}

// maxLine is the part of a command line in bytes with which patterns are compared. It can have
// megabytes.
const maxLine = 4096

// commandLine reads the arguments, joined by spaces. It is empty for a kernel thread and for a process
// that has ended.
func commandLine(proc string, pid int) (string, error) {
	text, err := read(filepath.Join(proc, strconv.Itoa(pid), "cmdline"), maxLine)
	return lineOf(text), err
}

func lineOf(arguments []byte) string {
	return string(bytes.ReplaceAll(bytes.TrimRight(arguments, "\x00"), []byte{0}, []byte{' '}))
}
