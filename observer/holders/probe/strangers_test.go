package probe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/holders/probe"
)

const ofBob = "0::/user.slice/user-1001.slice/session-4.scope\n"

// newGPUTree has a GPU that alice's compositor and bob's encoder have open.
func newGPUTree(t *testing.T) tree {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.process(500, "sway", 1000, ofSession, fullDev)
	tr.process(600, "encoder", 1001, ofBob, fullDev)
	return tr
}

func holdersOf(d holders.Document) (pids []int) {
	for _, h := range d.Holders {
		pids = append(pids, h.PID)
	}
	return pids
}

// A process that cannot be looked through may hold a GPU, and is no reason to know
// nothing of the others.
func TestDeniedProcess(t *testing.T) {
	refuse := func(errno unix.Errno) probe.Statx {
		return func(dir int, name string, flags, mask int, st *unix.Statx_t) error {
			if name == "7" {
				return errno
			}
			return unix.Statx(dir, name, flags, mask, st)
		}
	}
	cases := map[string]struct {
		statx probe.Statx
		tree  func(tr tree)
	}{
		"its directory": {unix.Statx, func(tr tree) {
			require.NoError(t, os.RemoveAll(tr.path("proc/700/fd")))
			tr.file("proc/700/fd", "")
		}},
		"a link, by ptrace's rules":        {refuse(unix.EACCES), func(tr tree) { tr.link("proc/700/fd/7", zeroDev) }},
		"all of statx, by a system filter": {refuse(unix.EPERM), func(tr tree) { tr.link("proc/700/fd/7", zeroDev) }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			tr := newGPUTree(t)
			tr.process(700, "secret", 1001, ofBob)
			c.tree(tr)
			p := probe.New(tr.roots())
			p.SetStatx(c.statx)
			d, err := p.Scan(t.Context())
			require.NoError(t, err)
			require.Equal(t, []observer.Unseen{{
				Process: observer.Process{PID: 700, Command: "secret", UID: 1001, Unit: "session-4.scope", Session: "4"},
				Slices:  []string{"user.slice", "user-1001.slice"}, Denied: true,
			}}, d.Unseen)
			require.Equal(t, 1, d.Unreadable, "for a daemon that knows no more")
			require.Equal(t, []int{500, 600}, holdersOf(d))
		})
	}
}

// Those with few open files come first, of the same user, too; and when the time is
// over, those that were not looked through are named.
func TestManyFilesLast(t *testing.T) {
	tr := newGPUTree(t)
	for i := range 2 {
		tr.process(100+i, "many", 1001, ofBob)
		for file := range 2000 {
			tr.link(fmt.Sprintf("proc/%d/fd/%d", 100+i, file), zeroDev)
		}
	}
	scan := func(enough int) holders.Document {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := probe.New(tr.roots())
		var mu sync.Mutex
		calls := 0
		p.SetStatx(func(dir int, name string, flags, mask int, st *unix.Statx_t) error {
			mu.Lock()
			defer mu.Unlock()
			if calls++; calls == enough {
				cancel()
			}
			return unix.Statx(dir, name, flags, mask, st)
		})
		d, err := p.Scan(ctx)
		require.NoError(t, err)
		require.Equal(t, []int{500, 600}, holdersOf(d))
		return d
	}
	d := scan(3000)
	require.Len(t, d.Unseen, 1)
	require.Equal(t, "many", d.Unseen[0].Command)
	require.False(t, d.Unseen[0].Denied)
	require.Equal(t, 2, d.Unreadable)
	require.Equal(t, 1, d.Unseen[0].Truncated)
	require.Empty(t, scan(-1).Unseen, "with time enough all are")
}

// A system call that does not return costs its user's processes, and once.
func TestBlockedFile(t *testing.T) {
	tr := newGPUTree(t)
	tr.process(100, "hung", 1001, ofBob)
	tr.link("proc/100/fd/9", zeroDev)
	answer, asked := make(chan struct{}), make(chan struct{}, 10)
	p := probe.New(tr.roots())
	p.SetLimits(50 * time.Millisecond)
	p.SetStatx(func(dir int, name string, flags, mask int, st *unix.Statx_t) error {
		if name == "9" {
			asked <- struct{}{}
			<-answer
		}
		return unix.Statx(dir, name, flags, mask, st)
	})
	for range 3 {
		d, err := p.Scan(t.Context())
		require.NoError(t, err)
		require.Equal(t, []int{500}, holdersOf(d))
		require.Len(t, d.Unseen, 1)
		require.Equal(t, 100, d.Unseen[0].PID, "it is the one that hangs that is named")
		require.Equal(t, 1, d.Unseen[0].Truncated)
	}
	require.Len(t, asked, 1, "a look that is stuck is given no company")
	close(answer)
	require.Eventually(t, func() bool {
		d, err := p.Scan(t.Context())
		return err == nil && len(d.Unseen) == 0 && len(d.Holders) == 2
	}, 10*time.Second, time.Millisecond)
}

// Anybody may have a GPU open in as many processes as they can start.
func TestManyHolders(t *testing.T) {
	tr := newGPUTree(t)
	const many = holders.MaxHolders + 50
	for i := range many {
		tr.process(1000+i, "spam", 1001, ofBob, fullDev, fullDev, fullDev)
	}
	tr.process(90000, "vllm", 990, "0::/ai.slice/vllm.service\n", fullDev)
	d := scan(t, tr)
	require.Len(t, d.Holders, holders.MaxHolders)
	pids := holdersOf(d)
	require.Contains(t, pids, 500)
	require.Contains(t, pids, 90000)
	more := 0
	for _, h := range d.Holders {
		require.Equal(t, []string{"card0"}, h.Nodes)
		if h.Truncated > 0 {
			require.EqualValues(t, 1001, h.UID)
			more += h.Truncated
		}
	}
	require.Equal(t, many+3-holders.MaxHolders, more)
	require.Zero(t, d.Unreadable)
	data, err := json.Marshal(d)
	require.NoError(t, err)
	require.Less(t, len(data), probeclient.MaxDocument)
	_, err = holders.Decode(data)
	require.NoError(t, err)
}

func TestManyUnseen(t *testing.T) {
	tr := newTree(t)
	tr.device("drm", pci, "card0", fullNumber)
	tr.process(90000, "daemon", 0, "0::/system.slice/daemon.service\n", zeroDev)
	for uid := range holders.MaxUnseen + 10 {
		tr.process(
			1000+uid, "app", 1000+uid, fmt.Sprintf("0::/user.slice/user-%d.slice/session-%d.scope\n", 1000+uid, uid), fullDev,
		)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, err := probe.New(tr.roots()).Scan(ctx)
	require.NoError(t, err)
	require.Len(t, d.Unseen, holders.MaxUnseen)
	require.Equal(t, "systemd", d.Unseen[1].Command, "those come first that are no user's")
	require.Equal(t, "daemon", d.Unseen[0].Command)
	require.Equal(t, 12, d.MoreUnseen)
	require.Equal(t, holders.MaxUnseen+12, d.Unreadable)
}

func TestCgroupUnreadable(t *testing.T) {
	tr := newGPUTree(t)
	tr.process(700, "deep", 1001, "", fullDev)
	require.NoError(t, os.Remove(tr.path("proc/700/cgroup")))
	require.NoError(t, os.Mkdir(tr.path("proc/700/cgroup"), 0o755)) // it cannot be read
	tr.file("proc/asound/card0/pcm0c/sub0/status", "state: RUNNING\nowner_pid   : 700\n")
	d := scan(t, tr)
	require.Equal(t, []int{500, 600, 700}, holdersOf(d))
	require.Equal(
		t, observer.Holder{GPU: gpu, PID: 700, Command: "deep", UID: 1001, Slices: []string{}, Nodes: []string{"card0"}},
		d.Holders[2],
	)
	require.Equal(t, "deep", d.PCMs[0].Command)
}

func TestManyThreads(t *testing.T) {
	tr := newGPUTree(t)
	tr.process(700, "zombie", 1001, ofBob)
	for thread := range 300 {
		require.NoError(t, os.MkdirAll(tr.path(fmt.Sprintf("proc/700/task/%d/fd", 7000+thread)), 0o755))
	}
	tr.link("proc/700/task/7299/fd/4", fullDev)
	d := scan(t, tr)
	require.Equal(t, []int{500, 600, 700}, holdersOf(d))
	require.Empty(t, d.Unseen)
}
