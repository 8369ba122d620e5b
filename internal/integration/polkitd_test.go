//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
)

const (
	polkitProgram = "/usr/lib/polkit-1/polkitd"
	polkitName    = "org.freedesktop.PolicyKit1"
	// polkitBusPolicy is what lets the real polkitd own its name.
	polkitBusPolicy = "/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf"
	polkitActions   = "/usr/share/polkit-1/actions/org.freedesktop.policykit.policy"
)

// guarded is a workstation on a bus as strict as the real one, with our bus
// policy, where the real polkitd with our actions says who may.
type guarded struct {
	*embedded.Workstation
	polkitd *os.Process
	exited  chan struct{} // closed when polkitd has ended
	// cgroups is the directory of polkitd's control group, which is the root of
	// the hierarchy that polkitd sees.
	cgroups string
	conn    *dbus.Conn
}

// startGuarded needs root: processes of other users, and a mount namespace for
// polkitd in which everything that it reads is the test's.
func startGuarded(t *testing.T, rules ...string) *guarded {
	t.Helper()
	return startGuardedFor(bounded(t), t, embedded.Options{}, rules...)
}

// startGuardedFor is startFor with the real polkitd.
func startGuardedFor(ctx context.Context, t *testing.T, opts embedded.Options, rules ...string) *guarded {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test runs the real polkitd and processes of other users: run it as root")
	}
	if _, err := os.Stat(polkitProgram); err != nil {
		t.Fatalf("this test runs the real polkitd (apt-get install polkitd): %v", err)
	}
	buses := t.TempDir()
	install(t, buses, "../../dbus-policy/org.dubnium.Mode1.conf", polkitBusPolicy)
	opts.Host.PolicyDirs, opts.Host.NoPolkit, opts.Log = []string{buses}, true, t.Output()
	g := &guarded{Workstation: startFor(ctx, t, opts)}
	g.conn = hosttest.Connect(t, g.Host)
	g.makeCgroup(t)
	g.startPolkitd(t, rules)
	return g
}

// install copies files into a directory in which everybody may read them.
func install(t *testing.T, dir string, files ...string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, from := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(from)), []byte(readFile(t, from)), 0o644))
	}
}

// covered is run in polkitd's own mount namespace. The machine's /run is not
// there, and with it neither its bus nor its logind's files.
const covered = `
mount -t tmpfs tmpfs /run
mkdir /run/systemd
mount --bind "$0/systemd" /run/systemd
mount --bind "$0/actions" /usr/share/polkit-1/actions
mount --bind "$0/rules" /etc/polkit-1/rules.d
mount --bind "$0/none" /usr/share/polkit-1/rules.d
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec "$1" --no-debug
`

func (g *guarded) startPolkitd(t *testing.T, rules []string) {
	t.Helper()
	dir := t.TempDir()
	install(t, filepath.Join(dir, "actions"), "../../dbus-policy/org.dubnium.mode1.policy", polkitActions)
	install(t, filepath.Join(dir, "rules"), rules...)
	install(t, filepath.Join(dir, "none"))
	writeSessions(t, filepath.Join(dir, "systemd"))
	signals := make(chan *dbus.Signal, 16)
	g.conn.Signal(signals)
	require.NoError(t, g.conn.AddMatchSignal(dbus.WithMatchSender("org.freedesktop.DBus"),
		dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, polkitName)))

	cmd := exec.Command("/bin/sh", "-euc", covered, dir, polkitProgram)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DBUS_SYSTEM_BUS_ADDRESS=" + g.Address()}
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	cmd.SysProcAttr = g.inCgroup(t, "", &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP})
	require.NoError(t, cmd.Start())
	g.polkitd, g.exited = cmd.Process, make(chan struct{})
	go func() {
		defer close(g.exited)
		_ = cmd.Wait() // tests kill it
	}()
	t.Cleanup(func() { g.killPolkitd() })
	for {
		select {
		case s := <-signals:
			if s.Name == "org.freedesktop.DBus.NameOwnerChanged" { // not the bus's welcome
				g.conn.RemoveSignal(signals)
				return
			}
		case <-g.exited:
			require.FailNow(t, "polkitd ended at once")
		case <-bounded(t).Done():
			require.FailNow(t, "polkitd does not come up")
		}
	}
}

func (g *guarded) killPolkitd() {
	_ = g.polkitd.Kill() // it may have ended
	<-g.exited
}

// lastCgroup numbers the control groups of this process.
var lastCgroup atomic.Uint64

// makeCgroup makes a control group below our own, through a mount of the unified
// hierarchy that is nowhere in the file system (fsmount(2)).
func (g *guarded) makeCgroup(t *testing.T) {
	t.Helper()
	hierarchy, err := unix.Fsopen("cgroup2", unix.FSOPEN_CLOEXEC)
	require.NoError(t, err, "the unified control group hierarchy is needed")
	defer unix.Close(hierarchy)
	require.NoError(t, unix.FsconfigCreate(hierarchy))
	mount, err := unix.Fsmount(hierarchy, unix.FSMOUNT_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(mount)) })
	var own string
	for line := range strings.Lines(readFile(t, "/proc/self/cgroup")) {
		if path, unified := strings.CutPrefix(line, "0::"); unified {
			own = strings.TrimSpace(path)
		}
	}
	g.cgroups = filepath.Join(
		fmt.Sprintf("/proc/self/fd/%d", mount), own, fmt.Sprintf("dubnium-%d-%d", os.Getpid(), lastCgroup.Add(1)),
	)
	require.NoError(t, os.Mkdir(g.cgroups, 0o755))
	t.Cleanup(func() { require.NoError(t, removeCgroups(g.cgroups)) })
}

// removeCgroups removes a control group and those below it, the deepest first.
// (The files in them go with them and cannot be removed by themselves.)
func removeCgroups(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	errs := []error{err}
	for _, dir := range slices.Backward(dirs) {
		errs = append(errs, os.Remove(dir))
	}
	return errors.Join(errs...)
}

// inCgroup makes a process begin in a control group below polkitd's.
func (g *guarded) inCgroup(t *testing.T, path string, attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	t.Helper()
	dir := filepath.Join(g.cgroups, path)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	attr.UseCgroupFD, attr.CgroupFD = true, fd
	return attr
}
