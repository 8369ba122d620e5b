package probe_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer/holders/probe"
)

// The device nodes that every process may link to stand in for a GPU's: the
// probe knows nodes by their number alone.
const (
	nullDev, nullNumber     = "/dev/null", "1:3"
	zeroDev, zeroNumber     = "/dev/zero", "1:5"
	fullDev, fullNumber     = "/dev/full", "1:7"
	randomDev, randomNumber = "/dev/random", "1:8"
)

// tree is a fabricated /proc and /sys.
type tree struct {
	t    *testing.T
	root string
}

// newTree has PID 1 and nothing else.
func newTree(t *testing.T) tree {
	tr := tree{t, t.TempDir()}
	tr.file("proc/devices", "Character devices:\n  1 mem\n\nBlock devices:\n259 blkext\n")
	tr.process(1, "systemd", 0, "0::/init.scope\n")
	return tr
}

func (tr tree) roots() probe.Roots {
	return probe.Roots{Proc: filepath.Join(tr.root, "proc"), Sys: filepath.Join(tr.root, "sys")}
}

func (tr tree) path(name string) string { return filepath.Join(tr.root, name) }

func (tr tree) file(name, text string) {
	tr.t.Helper()
	require.NoError(tr.t, os.MkdirAll(filepath.Dir(tr.path(name)), 0o755))
	require.NoError(tr.t, os.WriteFile(tr.path(name), []byte(text), 0o644))
}

func (tr tree) link(name, target string) {
	tr.t.Helper()
	require.NoError(tr.t, os.MkdirAll(filepath.Dir(tr.path(name)), 0o755))
	require.NoError(tr.t, os.Symlink(target, tr.path(name)))
}

// device makes a class entry the way sysfs does: the class links to the device's
// own directory, whose `device` leads to the hardware.
func (tr tree) device(class, hardware, name, number string) {
	tr.t.Helper()
	home := "sys/devices/" + hardware + "/" + class + "/" + name
	tr.file(home+"/dev", number+"\n")
	tr.link(home+"/device", tr.path("sys/devices/"+hardware))
	tr.link("sys/class/"+class+"/"+name, tr.path(home))
}

// function makes a PCI function as the bus lists it; no driver is none bound.
func (tr tree) function(address, class, driver string) {
	tr.t.Helper()
	dir := "sys/bus/pci/devices/" + address
	tr.file(dir+"/class", class+"\n")
	if driver != "" {
		tr.link(dir+"/driver", "../../../../bus/pci/drivers/"+driver)
	}
}

func (tr tree) nvidia(pci string, minor int) {
	tr.file("proc/driver/nvidia/gpus/"+pci+"/information",
		fmt.Sprintf("Model: \t\t NVIDIA GeForce RTX 3090\nIRQ:   \t\t 149\nDevice Minor: \t %d\n", minor))
}

// process makes a process with the given files open.
func (tr tree) process(pid int, comm string, uid int, cgroup string, open ...string) {
	tr.t.Helper()
	dir := "proc/" + strconv.Itoa(pid)
	tr.file(dir+"/comm", comm+"\n")
	tr.file(dir+"/status", fmt.Sprintf("Name:\t%s\nUid:\t%d\t%d\t%d\t%d\n", comm, uid, uid, uid, uid))
	tr.file(dir+"/cgroup", cgroup)
	require.NoError(tr.t, os.MkdirAll(tr.path(dir+"/task/"+strconv.Itoa(pid)+"/fd"), 0o755))
	require.NoError(tr.t, os.MkdirAll(tr.path(dir+"/fd"), 0o755))
	for i, target := range open {
		tr.link(fmt.Sprintf("%s/fd/%d", dir, i), target)
	}
}
