// Command initramfs is /init of the test machine's initial RAM disk: it loads the modules under /modules in the order
// of their names, mounts /dev/vda, and hands over to systemd there. A distribution's own initial RAM disk does the same
// in four times the time under emulation.
//
// With the word "bedprobe" on the kernel's command line it only says ProbeMark on the console and resets the machine;
// that is how the host finds out whether an accelerator really runs this kernel.
//
// It has nobody to report to but the console. When it fails it exits, the kernel panics and resets the machine.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

func main() {
	if slices.Contains(os.Args[1:], wire.ProbeWord) {
		fmt.Println(wire.ProbeMark)
		fmt.Println("init:", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
		return
	}
	fmt.Println("init:", start())
	os.Exit(1)
}

// start becomes systemd; it returns only when it cannot.
func start() error {
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("cannot mount /dev: %w", err)
	}
	modules, _ := filepath.Glob("/modules/*.ko") // the pattern is well-formed; names sort in load order
	for _, m := range modules {
		if err := load(m); err != nil {
			return err
		}
	}
	if err := mountRoot(); err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return fmt.Errorf("cannot switch to the root file system: %w", err)
	}
	err := unix.Exec("/usr/lib/systemd/systemd", []string{"systemd"}, nil)
	return fmt.Errorf("cannot start systemd: %w", err)
}

func load(module string) error {
	f, err := os.Open(module)
	if err == nil {
		defer f.Close()
		err = unix.FinitModule(int(f.Fd()), "", 0)
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot load %s: %w", module, err)
	}
	return nil
}

// mountRoot tries for a while: the disk's driver finds its device asynchronously.
func mountRoot() error {
	const tries, pause = 1000, 10 * time.Millisecond
	var err error
	for range tries {
		if err = unix.Mount("/dev/vda", "/root", "ext4", unix.MS_NOATIME, ""); err == nil {
			return nil
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("cannot mount /dev/vda: %w", err)
}

func switchRoot() error {
	return errors.Join(
		unix.Mount("/dev", "/root/dev", "", unix.MS_MOVE, ""),
		unix.Chdir("/root"),
		unix.Mount(".", "/", "", unix.MS_MOVE, ""),
		unix.Chroot("."),
		unix.Chdir("/"),
	)
}
