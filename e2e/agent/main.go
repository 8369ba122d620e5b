// Command agent is the host's hand inside the test machine. It runs as root from early boot on, survives isolate, and
// does what the host asks over a virtio-serial port: run programs, move files, wait for things to become true, listen
// on the system bus. Waiting happens here and not on the host, so that a test is one round trip and never a sleep.
//
// An agent that cannot do a request says so in the stream's Result and lives on; only a missing port ends it, and
// systemd starts it again.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

func main() {
	fmt.Fprintln(os.Stderr, "bed-agent:", run(context.Background()))
	os.Exit(1)
}

// run serves the host and returns only when it cannot.
func run(ctx context.Context) error {
	link, err := openPort()
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	s := &server{link: link, bootID: boot, streams: map[uint32]*stream{}}
	return s.serve(ctx)
}

// bootID is the kernel's own name for this boot, by which the host notices a reboot.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("cannot tell which boot this is: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
