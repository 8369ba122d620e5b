package testhost

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

// tree is the simulated /proc and /sys: plain files, directories and links. A
// device is a character device that every machine has and that nothing in the
// tree uses otherwise; what has a device "open" has a link to it among its fds,
// so that stat(2) gives the device number that sysfs names.
type tree struct {
	root    string
	devices map[string]string
	start   time.Time
	err     error // the first thing that could not be written
}

// defaultDevices take the place of DRM and sound nodes. Each has a number of
// its own.
func defaultDevices() map[string]string {
	return map[string]string{
		"card0": "/dev/full", "renderD128": "/dev/zero",
		"card1": "/dev/random", "renderD129": "/dev/urandom",
		"controlC0": "/dev/tty", "pcmC0D3p": "/dev/ptmx",
	}
}

// gpu is one card of the simulated machine.
type gpu struct {
	address, card, render string
	bootVGA               bool
	sound                 bool
}

const pciRoot = "sys/devices/pci0000:00"

func newTree(root string, devices map[string]string, secondGPU bool) (*tree, error) {
	t := &tree{root: root, devices: defaultDevices(), start: time.Now()}
	for name, path := range devices {
		t.devices[name] = path
	}
	t.gpu(gpu{address: "0000:01:00", card: "card0", render: "renderD128", bootVGA: true, sound: true})
	if secondGPU {
		t.gpu(gpu{address: "0000:41:00", card: "card1", render: "renderD129"})
	}
	t.write("proc/loadavg", "0.20 0.18 0.12 1/512 4242\n")
	if err := os.Symlink("/proc/locks", filepath.Join(t.root, "proc/locks")); err != nil { // locks are real
		t.fail(fmt.Errorf("cannot link the list of locks: %w", err))
	}
	t.write("proc/uptime", "3600.00 14000.00\n")
	t.write("proc/stat", fmt.Sprintf("cpu  10 0 10 1000 0 0 0 0 0 0\ncpu0 5 0 5 500 0 0 0 0 0 0\n"+
		"cpu1 5 0 5 500 0 0 0 0 0 0\nbtime %d\n", t.start.Unix()))
	t.write("proc/meminfo", "MemTotal:       65536000 kB\nMemFree:        40960000 kB\nMemAvailable:   53248000 kB\n"+
		"SwapTotal:             0 kB\nSwapFree:              0 kB\n")
	for _, resource := range []string{"cpu", "io", "memory"} {
		t.write("proc/pressure/"+resource, "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"+
			"full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	}
	t.write("proc/sys/kernel/random/boot_id", bootID(t.start)+"\n")
	return t, t.err
}

// bootID is a UUID that differs from host to host.
func bootID(start time.Time) string {
	n := start.UnixNano()
	return fmt.Sprintf("%08x-%04x-4%03x-8000-%012x", uint32(n>>32), uint16(n>>16), n&0xfff, os.Getpid())
}

// gpu writes a card as sysfs shows it (Documentation/ABI/testing/sysfs-bus-pci):
// the class directories hold links to where the device is.
func (t *tree) gpu(g gpu) {
	vga := pciRoot + "/" + g.address + ".0"
	t.pci(vga, "0x030000", "nvidia")
	t.write(vga+"/boot_vga", flag(g.bootVGA))
	for _, node := range []string{g.card, g.render} {
		t.device(vga+"/drm/"+node, "drm", node, "dri/"+node)
	}
	connector := vga + "/drm/" + g.card + "/" + g.card + "-DP-1"
	t.write(connector+"/status", "connected\n")
	t.link("sys/class/drm/"+g.card+"-DP-1", connector)
	if !g.sound {
		return
	}
	hda := pciRoot + "/" + g.address + ".1"
	t.pci(hda, "0x040300", "snd_hda_intel")
	for _, node := range []string{"controlC0", "pcmC0D3p"} {
		t.device(hda+"/sound/card0/"+node, "sound", node, "snd/"+node)
		t.link(hda+"/sound/card0/"+node+"/device", hda+"/sound/card0")
	}
	t.write(hda+"/sound/card0/id", "HDMI\n")
	t.link(hda+"/sound/card0/device", hda)
	t.link("sys/class/sound/card0", hda+"/sound/card0")
	t.write("proc/asound/card0/pcm3p/sub0/status", "closed\n")
}

func (t *tree) pci(dir, class, driver string) {
	t.write(dir+"/class", class+"\n")
	t.write(dir+"/vendor", "0x10de\n")
	t.write(dir+"/device", "0x2684\n")
	t.write(dir+"/uevent", "DRIVER="+driver+"\nPCI_SLOT_NAME="+filepath.Base(dir)+"\n")
	t.write("sys/bus/pci/drivers/"+driver+"/.keep", "")
	t.link(dir+"/driver", "sys/bus/pci/drivers/"+driver)
	t.link(dir+"/subsystem", "sys/bus/pci")
	t.link("sys/bus/pci/devices/"+filepath.Base(dir), dir)
}

// device writes a class device with the number of the node that stands for it.
func (t *tree) device(dir, class, node, devname string) {
	var st unix.Stat_t
	if err := unix.Stat(t.devices[node], &st); err != nil {
		t.fail(fmt.Errorf("cannot use %s in place of %s: %w", t.devices[node], node, err))
		return
	}
	major, minor := unix.Major(st.Rdev), unix.Minor(st.Rdev)
	t.write(dir+"/dev", fmt.Sprintf("%d:%d\n", major, minor))
	t.write(dir+"/uevent", fmt.Sprintf("MAJOR=%d\nMINOR=%d\nDEVNAME=%s\n", major, minor, devname))
	if class == "drm" {
		t.link(dir+"/device", filepath.Dir(filepath.Dir(dir)))
	}
	t.link("sys/class/"+class+"/"+node, dir)
}

func flag(b bool) string {
	if b {
		return "1\n"
	}
	return "0\n"
}

func (t *tree) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *tree) write(path, content string) {
	full := filepath.Join(t.root, path)
	err := os.WriteFile(full, []byte(content), 0o644)
	if os.IsNotExist(err) {
		if err = os.MkdirAll(filepath.Dir(full), 0o755); err == nil {
			err = os.WriteFile(full, []byte(content), 0o644)
		}
	}
	if err != nil {
		t.fail(fmt.Errorf("cannot write the simulated %s: %w", path, err))
	}
}

// link makes path a relative link to target, both inside of the tree.
func (t *tree) link(path, target string) {
	relative, err := filepath.Rel(filepath.Dir(path), target)
	if err == nil {
		full := filepath.Join(t.root, path)
		if err = os.MkdirAll(filepath.Dir(full), 0o755); err == nil {
			err = os.Symlink(relative, full)
		}
	}
	if err != nil {
		t.fail(fmt.Errorf("cannot link the simulated %s: %w", path, err))
	}
}

// process writes proc/PID, or brings its open files up to date. A new one is
// made beside and moved into place: a reader sees all of it or nothing.
func (t *tree) process(p sim.Process) {
	dir := "proc/" + strconv.Itoa(p.PID)
	if _, err := os.Stat(filepath.Join(t.root, dir)); err == nil {
		t.descriptors(dir, p.Opens)
		return
	}
	making := ".making/" + strconv.Itoa(p.PID)
	t.descriptors(making, p.Opens)
	t.write(making+"/comm", p.Comm+"\n")
	t.write(making+"/cmdline", strings.Join(p.Cmdline, "\x00")+"\x00")
	t.write(making+"/cgroup", "0::"+p.Cgroup+"\n")
	ticks := int64(p.Started.Sub(t.start).Seconds()*100) + 1000
	t.write(making+"/stat", fmt.Sprintf("%d (%s) S %d %d %d 0 -1 4194304%s 20 0 1 0 %d%s\n", p.PID, p.Comm, p.PPID,
		p.PID, p.PID, strings.Repeat(" 0", 8), ticks, strings.Repeat(" 0", 30)))
	t.write(making+"/status", fmt.Sprintf("Name:\t%s\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t%d\nPid:\t%d\n"+
		"PPid:\t%d\nUid:\t%[5]d\t%[5]d\t%[5]d\t%[5]d\nGid:\t%[5]d\t%[5]d\t%[5]d\t%[5]d\n",
		p.Comm, p.PID, p.PID, p.PPID, p.UID))
	if err := os.MkdirAll(filepath.Join(t.root, "proc"), 0o755); err != nil {
		t.fail(err)
	}
	if p.PID == 1 { // its file system is this machine's
		if err := os.Symlink("/", filepath.Join(t.root, making, "root")); err != nil {
			t.fail(err)
		}
	}
	if err := os.Rename(filepath.Join(t.root, making), filepath.Join(t.root, dir)); err != nil {
		t.fail(fmt.Errorf("cannot show the simulated process: %w", err))
	}
}

// descriptors makes fd/ hold exactly /dev/null and the open devices.
func (t *tree) descriptors(dir string, opens []string) {
	fds := filepath.Join(t.root, dir, "fd")
	if err := os.RemoveAll(fds); err != nil {
		t.fail(err)
	}
	if err := os.MkdirAll(fds, 0o755); err != nil {
		t.fail(err)
	}
	for i, target := range append([]string{"/dev/null"}, opens...) {
		if path, ok := t.devices[target]; ok {
			target = path
		}
		fd := i
		if i > 0 {
			fd = i + 2 // 3 is the first that a program opens itself
		}
		if err := os.Symlink(target, filepath.Join(fds, strconv.Itoa(fd))); err != nil {
			t.fail(fmt.Errorf("cannot open a simulated device: %w", err))
		}
	}
}

// exit takes a process away at once, and cleans up after that.
func (t *tree) exit(pid int) {
	from := filepath.Join(t.root, "proc", strconv.Itoa(pid))
	to := filepath.Join(t.root, ".making", "gone-"+strconv.Itoa(pid))
	if err := os.Rename(from, to); err != nil {
		t.fail(fmt.Errorf("cannot end the simulated process: %w", err))
		return
	}
	if err := os.RemoveAll(to); err != nil {
		t.fail(err)
	}
}
