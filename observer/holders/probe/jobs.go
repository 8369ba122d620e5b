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

// Jobs lists the processes that policy calls somebody's work, and those whose command
// lines could not be read. To read one the kernel needs the process's own memory,
// which the process can keep locked for as long as it likes.
func (p *Probe) Jobs(ctx context.Context, t policy.Thresholds) observer.Jobs {
	pids, err := processes(p.roots.Proc)
	if err != nil {
		return observer.Jobs{Reason: err.Error()}
	}
	found := p.lines.run(ctx, accounts(p.roots.Proc, pids), func(ctx context.Context, turn *turn[observer.Job], pids []int) {
		for _, pid := range pids {
			timely := turn.visit(ctx, pid, func() (observer.Job, bool) {
				job, err := p.jobOf(pid, t)
				return job, err == nil || gone(err)
			})
			if !timely {
				return
			}
		}
	})
	jobs := observer.Jobs{Complete: true, List: []observer.Job{}}
	groups, sizes, left := map[string][]observer.Job{}, map[string]int{}, map[account][]int{}
	for of, f := range found {
		for _, pid := range f.pids {
			switch job, told := f.told[pid]; {
			case !told:
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

// listJobs adds jobs of one account with whose they are, and counts the rest.
func (p *Probe) listJobs(jobs *observer.Jobs, group []observer.Job, room int) {
	for i, job := range group {
		if room == 0 {
			jobs.Truncated += len(group) - i
			return
		}
		if is, there := who(p.roots.Proc, job.PID); there {
			job.Process = plain(is)
			jobs.List = append(jobs.List, job)
			room--
		}
	}
}

// jobOf returns the job that a process is, without whose it is; one without a pid is
// none.
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

// maxLine is as much of a command line as a pattern is compared with: one has up to
// megabytes.
const maxLine = 4096

// commandLine is the arguments with a space between. A kernel thread and a process
// that has ended have none.
func commandLine(proc string, pid int) (string, error) {
	text, err := read(filepath.Join(proc, strconv.Itoa(pid), "cmdline"), maxLine)
	return lineOf(text), err
}

func lineOf(arguments []byte) string {
	return string(bytes.ReplaceAll(bytes.TrimRight(arguments, "\x00"), []byte{0}, []byte{' '}))
}
