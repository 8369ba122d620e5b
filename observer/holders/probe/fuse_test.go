package probe_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders/probe"
	"github.com/dubnium/dubnium/policy"
)

const nobody = 65534

// fuse is a real FUSE file system of nobody's with one file in it, which can be opened
// and never be read.
type fuse struct {
	t    *testing.T
	file string
	// silent: nothing is answered any more. asked counts what was asked meanwhile.
	silent   atomic.Bool
	asked    atomic.Int32
	children []*exec.Cmd
}

// mountFUSE needs root. Options are the kernel's (Documentation/filesystems/fuse.rst).
func mountFUSE(t *testing.T, options string) *fuse {
	t.Helper()
	dir, err := os.MkdirTemp("", "fuse")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	f := &fuse{t: t, file: filepath.Join(dir, "file")}
	data := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d%s", device, nobody, nobody, options)
	require.NoError(t, unix.Mount("test", dir, "fuse.test", unix.MS_NODEV|unix.MS_NOSUID, data))
	connection := os.NewFile(uintptr(device), "/dev/fuse")
	served := make(chan struct{})
	go func() {
		defer close(served)
		f.serve(connection)
	}()
	t.Cleanup(func() {
		for _, child := range f.children {
			require.NoError(t, child.Process.Kill())
		}
		require.NoError(t, unix.Unmount(dir, unix.MNT_DETACH))
		require.NoError(t, connection.Close()) // it ends whatever waits for an answer
		<-served
		for _, child := range f.children {
			require.Error(t, child.Wait())
		}
		require.NoError(t, os.Remove(dir))
	})
	return f
}

// child starts this program as nobody, to do with the file what children has under
// that name, and returns its pid and its file descriptor.
func (f *fuse) child(does string) (pid, fd int) {
	f.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.Dir = []string{"CHILD=" + does, "FILE=" + f.file}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(f.t, err)
	require.NoError(f.t, cmd.Start())
	f.children = append(f.children, cmd)
	_, err = fmt.Fscan(out, &fd)
	require.NoError(f.t, err)
	return cmd.Process.Pid, fd
}

var children = map[string]func(file int){
	"keeps it open": func(int) {},
	// The kernel reads the file for the one thread with the process's memory locked, and
	// the other waits to lock it for a change: from then on nobody else gets it.
	"locks its memory": func(file int) {
		mapped, err := unix.Mmap(file, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			panic(err)
		}
		memory, err := os.Open("/proc/self/mem")
		if err != nil {
			panic(err)
		}
		address := int64(uintptr(unsafe.Pointer(unsafe.SliceData(mapped))))
		go memory.ReadAt(make([]byte, 1), address)
		go func() {
			for {
				if more, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err == nil {
					_ = unix.Munmap(more)
				}
			}
		}()
	},
}

func TestMain(m *testing.M) {
	does, ok := os.LookupEnv("CHILD")
	if !ok {
		os.Exit(m.Run())
	}
	file, err := unix.Open(os.Getenv("FILE"), unix.O_RDONLY, 0)
	if err != nil {
		panic(err)
	}
	fmt.Println(file)
	children[does](file)
	select {}
}

// The requests of fuse(4) that opening, mapping and reading a file takes.
const (
	fuseLookup  = 1
	fuseForget  = 2
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRead    = 15
	fuseRelease = 18
	fuseFlush   = 25
	fuseInit    = 26
)

func (f *fuse) serve(connection *os.File) {
	request := make([]byte, 1<<17)
	for {
		if _, err := connection.Read(request); err != nil {
			return
		}
		if f.silent.Load() {
			f.asked.Add(1)
			continue
		}
		body, errno := fuseAnswer(binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[16:]))
		if body == nil && errno == 0 {
			continue
		}
		answer := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		answer = binary.NativeEndian.AppendUint32(answer, uint32(-int32(errno)))
		answer = append(answer, request[8:16]...)
		if _, err := connection.Write(append(answer, body...)); err != nil {
			return
		}
	}
}

// fuseAnswer returns a body, or an error, or neither for what wants no answer.
func fuseAnswer(request uint32, inode uint64) (body []byte, errno syscall.Errno) {
	var out bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&out, binary.NativeEndian, v) // to a buffer
		}
	}
	attributes := func(inode uint64) {
		mode := uint32(unix.S_IFDIR | 0o777)
		if inode != 1 {
			mode = unix.S_IFREG | 0o666
		}
		put(inode, uint64(1<<16), [4]uint64{}, [3]uint32{}, mode, uint32(1), [2]uint32{nobody, nobody}, [3]uint32{})
	}
	switch request {
	case fuseInit:
		put([4]uint32{7, 31}, [2]uint16{}, uint32(1<<16), [9]uint32{})
	case fuseLookup:
		put([4]uint64{2}, [2]uint32{})
		attributes(2)
	case fuseGetattr:
		put([2]uint64{})
		attributes(inode)
	case fuseOpen:
		put([2]uint64{})
	case fuseRelease, fuseFlush:
		return []byte{}, 0
	case fuseForget, fuseRead:
		return nil, 0
	default:
		return nil, syscall.ENOSYS
	}
	return out.Bytes(), 0
}

// onFUSE are the ways in which a file of somebody's own file system can be open. The
// kernel's answer for the first is written down, and given by the kernel as root.
func TestFUSEMount(t *testing.T) {
	scan := func(t *testing.T, file string, x probe.Statx) {
		tr := newTree(t)
		tr.device("drm", pci, "card0", fullNumber)
		tr.process(700, "rsync", nobody, ofSession, nullDev, file, fullDev)
		p := probe.New(tr.roots())
		if x != nil {
			p.SetStatx(x)
		}
		d, err := p.Scan(t.Context())
		require.NoError(t, err)
		require.Empty(t, d.Unseen)
		require.Zero(t, d.Unreadable)
		require.Len(t, d.Holders, 1, "what else it has open counts")
	}
	t.Run("as the kernel answers", func(t *testing.T) {
		scan(t, "private", func(dir int, name string, flags, mask int, st *unix.Statx_t) error {
			switch {
			case name != "1":
				return unix.Statx(dir, name, flags, mask, st)
			case mask != 0:
				return unix.EACCES
			}
			*st = unix.Statx_t{Mask: unix.STATX_MNT_ID}
			return nil
		})
	})
	if os.Getuid() != 0 {
		return
	}
	for options, private := range map[string]bool{"": true, ",allow_other": false} {
		t.Run("real"+options, func(t *testing.T) {
			f := mountFUSE(t, options)
			pid, fd := f.child("keeps it open")
			file := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
			target, err := os.Readlink(file)
			require.NoError(t, err)
			require.Equal(t, f.file, target)
			f.silent.Store(true)
			scan(t, file, nil)
			require.Zero(t, f.asked.Load(), "the server is not asked, which may never answer")
			var st unix.Statx_t
			err = unix.Statx(unix.AT_FDCWD, file, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
			require.Equal(t, private, err == unix.EACCES, err)
		})
	}
}

// A process can keep everybody from reading its memory, where its command line is.
func TestLockedMemory(t *testing.T) {
	cmdlines := map[string]func(t *testing.T) string{"a pipe": func(t *testing.T) string {
		pipe := filepath.Join(t.TempDir(), "cmdline")
		require.NoError(t, unix.Mkfifo(pipe, 0o600))
		t.Cleanup(func() { // whoever waits to read it reads nothing
			write, err := os.OpenFile(pipe, os.O_WRONLY|unix.O_NONBLOCK, 0)
			require.NoError(t, err)
			require.NoError(t, write.Close())
		})
		return pipe
	}}
	if os.Getuid() == 0 {
		cmdlines["a process"] = func(t *testing.T) string {
			pid, _ := mountFUSE(t, "").child("locks its memory")
			file := fmt.Sprintf("/proc/%d/cmdline", pid)
			require.Eventually(t, func() bool {
				read := make(chan struct{})
				go func() { _, _ = os.ReadFile(file); close(read) }()
				select {
				case <-read:
					return false
				case <-time.After(50 * time.Millisecond):
					return true
				}
			}, 10*time.Second, time.Millisecond)
			return file
		}
	}
	for name, cmdline := range cmdlines {
		t.Run(name, func(t *testing.T) {
			tr := newJobTree(t)
			tr.runs(700, "make", 1001, "0::/user.slice/user-1001.slice/session-4.scope\n", "make")
			tr.process(710, "strange", 1000, ofSession)
			tr.link("proc/710/cmdline", cmdline(t))
			tr.runs(720, "make", 1000, ofSession, "make")
			p := probe.New(tr.roots())
			p.SetLimits(100 * time.Millisecond)
			for range 2 {
				jobs := p.Jobs(t.Context(), policy.Default().Guards)
				require.True(t, jobs.Complete)
				require.Len(t, jobs.List, 1)
				require.Equal(t, 700, jobs.List[0].PID, "another user's is told")
				require.Equal(t, []observer.Unseen{{
					Process: observer.Process{PID: 710, Command: "strange", UID: 1000, Unit: "session-3.scope", Session: "3"},
					Slices:  []string{"user.slice", "user-1000.slice"}, Truncated: 1,
				}}, jobs.Unread)
				require.Zero(t, jobs.MoreUnread)
			}
			require.Equal(t, 1, p.Stuck(), "a turn that is stuck is given no company")
		})
	}
}
