//go:build integration

package integration

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// The people of the tests. alice is who sits at the simulated workstation.
const (
	alice  = 1000
	bob    = 1001
	carol  = 1002 // of the group dubnium-operators
	dave   = 1003 // at a seat of his own, where nothing is simulated
	nobody = 65534

	// The strangers have one uid after the other, from this one on. What is rationed
	// for each user is not used up as soon by many.
	stranger  = 2000
	strangers = 32
)

const people = `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
alice:x:1000:1000::/home/alice:/bin/sh
bob:x:1001:1001::/home/bob:/bin/sh
carol:x:1002:1002::/home/carol:/bin/sh
dave:x:1003:1003::/home/dave:/bin/sh
`

const groups = `root:x:0:
nogroup:x:65534:
alice:x:1000:
bob:x:1001:
carol:x:1002:
dave:x:1003:
dubnium-operators:x:1100:carol
`

// inNamespace tells the second run of this program that it is the second.
const inNamespace = "DUBNIUM_INTEGRATION_NAMESPACE"

// enterOwnNamespace starts this program again, in the same process, in a mount
// namespace in which the tests' people exist. A bus refuses whoever has no entry
// in the user database, and nobody's own is touched.
func enterOwnNamespace() error {
	if os.Getenv(inNamespace) != "" {
		return nil
	}
	runtime.LockOSThread() // the namespace is this thread's, and so is what it executes
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot leave the machine's: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make it private: %w", err)
	}
	all := people
	for uid := stranger; uid < stranger+strangers; uid++ {
		all += fmt.Sprintf("stranger%d:x:%d:65534::/nonexistent:/usr/sbin/nologin\n", uid, uid)
	}
	if err := errors.Join(cover("/etc/passwd", all, "polkitd:"), cover("/etc/group", groups, "polkitd:")); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), inNamespace+"=1"))
}

// cover puts content in the place of a file, with the file's own lines that begin
// with keep.
func cover(path, content, keep string) error {
	own, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(own)) {
		if strings.HasPrefix(line, keep) {
			content += line
		}
	}
	f, err := os.CreateTemp("", "dubnium")
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	if err := unix.Mount(f.Name(), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot cover %s: %w", path, err)
	}
	return os.Remove(f.Name()) // what is mounted stays
}
