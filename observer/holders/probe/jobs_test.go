package probe_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/holders/probe"
	"github.com/dubnium/dubnium/policy"
)

// runs makes a process with a command line.
func (tr tree) runs(pid int, comm string, uid int, cgroup string, args ...string) {
	tr.t.Helper()
	tr.process(pid, comm, uid, cgroup)
	tr.file(fmt.Sprintf("proc/%d/cmdline", pid), strings.Join(args, "\x00")+"\x00")
}

func newJobTree(t *testing.T) tree {
	tr := newTree(t)
	tr.file("proc/1/cmdline", "/sbin/init\x00")
	return tr
}

func TestJobs(t *testing.T) {
	tr := newJobTree(t)
	tr.runs(700, "make", 1000, ofSession, "make", "-j8", "PASSWORD=secret")
	tr.runs(710, "tmux: server", 1001, "0::/user.slice/user-1001.slice/session-9.scope\n", "tmux", "new")
	tr.runs(720, "rsync", 0, "0::/system.slice/rsync.service\n", "/usr/bin/rsync", "--daemon", "--no-detach")
	tr.runs(730, "nix", 1000, ofSession, "/run/current-system/sw/bin/nix", "build", ".#iso")
	tr.runs(740, "bash", 1000, ofSession, "-bash")
	jobs := probe.New(tr.roots()).Jobs(t.Context(), policy.Default().Guards)
	require.Equal(t, observer.Jobs{Complete: true, List: []observer.Job{
		{
			Process: observer.Process{PID: 700, Command: "make", UID: 1000, Unit: "session-3.scope", Session: "3"},
			Pattern: "make",
		},
		{
			Process: observer.Process{PID: 710, Command: "tmux: server", UID: 1001, Unit: "session-9.scope", Session: "9"},
			Pattern: "tmux: server", Remote: true,
		},
		{
			Process: observer.Process{PID: 730, Command: "nix", UID: 1000, Unit: "session-3.scope", Session: "3"},
			Pattern: "nix build*",
		},
	}}, jobs)
	require.NotContains(t, fmt.Sprint(jobs), "secret")
}

func TestJobsAreBounded(t *testing.T) {
	tr := newJobTree(t)
	for i := range holders.MaxJobs + 3 {
		tr.runs(100+i, "cc1", 1000, ofSession, "cc1", strings.Repeat("x", 10000))
	}
	tr.runs(90000, "make", 1001, "0::/user.slice/user-1001.slice/session-4.scope\n", "make")
	jobs := probe.New(tr.roots()).Jobs(t.Context(), policy.Default().Guards)
	require.Len(t, jobs.List, holders.MaxJobs)
	require.Equal(t, 4, jobs.Truncated)
	require.Equal(t, 90000, jobs.List[holders.MaxJobs-1].PID, "many jobs of one user hide no job of another's")
}

func TestUnreadJob(t *testing.T) {
	require.Equal(
		t, "cannot list processes: open /nonexistent: no such file or directory",
		probe.New(probe.Roots{Proc: "/nonexistent"}).Jobs(t.Context(), policy.Thresholds{}).Reason,
	)
	tr := newJobTree(t)
	tr.process(700, "make", 1000, ofSession)
	require.NoError(t, os.Mkdir(tr.path("proc/700/cmdline"), 0o755)) // it cannot be read, by root either
	tr.runs(710, "make", 1000, ofSession, "make")
	jobs := probe.New(tr.roots()).Jobs(t.Context(), policy.Default().Guards)
	require.True(t, jobs.Complete)
	require.Len(t, jobs.List, 1, "another one of the same user is told")
	require.Len(t, jobs.Unread, 1)
	require.Equal(t, 700, jobs.Unread[0].PID)
}

func TestStoresOfPID1(t *testing.T) {
	tr := newTree(t)
	root := tr.path("elsewhere")
	tr.link("proc/1/root", root)
	for _, dir := range []string{"srv/models", "home"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	tr.file("elsewhere/file", "")
	// An absolute link leads where it leads PID 1.
	tr.link("elsewhere/home/models", "/srv/models")
	tr.link("elsewhere/srv/up", "../../../home/./models")
	tr.link("elsewhere/srv/loop", "loop")
	tr.link("elsewhere/srv/away", "/nowhere")
	stores := probe.NewDirectoryReader(tr.roots().Proc)
	var fs unix.Statfs_t
	require.NoError(t, unix.Statfs(root, &fs))
	for range 2 {
		found := stores.Read(
			[]string{"/srv/models", "/home/models", "/nowhere", "/file", "/srv/up", "/srv/loop", "/srv/away", "/file/below"},
		)
		require.Equal(t, "it does not exist", found[2].Fault)
		require.Equal(t, "it is not a directory", found[3].Fault)
		require.Contains(t, found[5].Reason, "too many levels of symbolic links")
		require.Equal(t, "it does not exist", found[6].Fault)
		require.Equal(t, "it is not a directory", found[7].Fault)
		for i, path := range map[int]string{0: "/srv/models", 1: "/home/models", 4: "/srv/up"} {
			require.Equal(t, path, found[i].Path)
			require.Empty(t, found[i].Fault+found[i].Reason)
			require.InEpsilon(t, float64(fs.Bavail)*float64(fs.Bsize), *found[i].Free.Value, 0.2)
		}
	}
}

func TestStoreUnknown(t *testing.T) {
	found := probe.NewDirectoryReader(newTree(t).roots().Proc).Read([]string{"/srv"})
	require.Empty(t, found[0].Fault)
	require.Contains(t, found[0].Reason, "the file system of PID 1 cannot be read")
	require.Nil(t, found[0].Free.Value)
}

func TestStoreHangs(t *testing.T) {
	answer := make(chan struct{})
	var asked atomic.Int32
	stores := probe.StoresReadBy(func(path string) observer.Directory {
		asked.Add(1)
		<-answer
		return observer.Directory{Path: path}
	})
	for range 3 {
		require.Equal(t, "its file system does not answer", stores.Read([]string{"/net", "/net2"})[0].Reason)
	}
	require.EqualValues(t, 2, asked.Load(), "a look that is stuck is given no company")
	close(answer)
	require.Eventually(
		t, func() bool { return stores.Read([]string{"/net"})[0].Reason == "" }, 10*time.Second, time.Millisecond,
	)
}
