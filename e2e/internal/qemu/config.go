// Package qemu starts, saves and ends one virtual machine.
//
// A machine's memory is a file. While a machine is being made the file is shared, so that it holds the memory when the
// machine is saved; a restored machine maps the same file privately and copies a page only when it writes to it. So a
// restore reads nothing in advance, and any number of restores leave the saved memory as it is.
//
// The process dies with us, however we end: it is started by a thread that stays for as long as the process lives, and
// the kernel kills it when that thread is gone.
package qemu

import (
	"fmt"
	"strconv"

	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// Binary is the emulator.
const Binary = "qemu-system-x86_64"

const (
	memoryMiB = 2048
	cpus      = 2
)

// kernelWords keep the guest's kernel fast and quiet under emulation. no_timer_check: the test it leaves out can fail
// on a busy host, and then the kernel panics. norandmaps: a program that lies where it lay before is translated already,
// which makes a command four times as fast. A panic resets the machine at once.
const kernelWords = "console=ttyS0 rw quiet mitigations=off norandmaps no_timer_check panic=-1 audit=0 systemd.gpt_auto=no"

// Hardware is what a saved state depends on besides the disk.
type Hardware struct {
	Version     string // of QEMU, as it prints it
	Machine     string // versioned: pc-q35-7.2
	Accelerator string // kvm or tcg
	CPU         string // the model asked for
	HostCPU     string // what that means on this host; empty under emulation
}

// Key holds everything that has to be the same for a saved state to be restored.
func (h Hardware) Key() []any {
	return []any{h, memoryMiB, cpus, kernelWords, args(h, Boot{}, "", false)}
}

// Boot is what a machine starts from.
type Boot struct {
	Kernel, Initrd string
	Disk           string // a qcow2 overlay of its own
	Memory         string // the file that is its memory
	Console        string // the file that takes what the kernel and systemd print
	Words          string // more words for the kernel's command line
	SaveLater      bool   // share the memory file, so that Save keeps it
	NoReboot       bool   // end at the first reset
}

// The descriptors that Start hands to QEMU: the first three are the standard ones.
const (
	agentFD = 3
	qmpFD   = 4
)

// args are QEMU's arguments. A machine to be restored must have those of the machine that was saved.
func args(h Hardware, b Boot, words string, incoming bool) []string {
	accelerator := h.Accelerator
	if accelerator == "tcg" {
		accelerator = "tcg,thread=multi"
	}
	a := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-machine", h.Machine + ",memory-backend=memory",
		"-accel", accelerator, "-cpu", h.CPU, "-smp", strconv.Itoa(cpus), "-m", strconv.Itoa(memoryMiB),
		"-object", fmt.Sprintf("memory-backend-file,id=memory,size=%dM,mem-path=%s,share=%s",
			memoryMiB, escape(b.Memory), onOff(b.SaveLater)),
		"-kernel", b.Kernel, "-initrd", b.Initrd, "-append", words,
		"-device", "virtio-gpu-pci",
		"-device", "virtio-serial-pci",
		"-chardev", fmt.Sprintf("socket,id=agent,fd=%d", agentFD),
		"-device", "virtserialport,chardev=agent,name=" + wire.PortName,
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpFD),
		"-mon", "chardev=qmp,mode=control",
		"-chardev", "file,id=console,path=" + escape(b.Console), "-serial", "chardev:console",
	}
	if b.Disk != "" {
		a = append(a, "-drive", "if=virtio,format=qcow2,cache=unsafe,file="+escape(b.Disk))
	}
	if b.NoReboot {
		a = append(a, "-no-reboot")
	}
	if incoming {
		a = append(a, "-incoming", "defer")
	}
	return a
}

func (b Boot) words() string {
	if b.Words == "" {
		return kernelWords
	}
	return kernelWords + " " + b.Words
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
