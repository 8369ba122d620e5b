package sinks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/atomicfile"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// console is the text that the machine's consoles show before a login (agetty(8), ISSUE
// FILES). In compute there is no other screen.
type console struct {
	dir string
	now func() time.Duration // the boot clock
	log *zap.Logger
	// shown is what is in the file, as far as this daemon knows.
	shown   string
	known   bool
	fault   error
	retryAt time.Duration
}

// consoleRetry is the pause before a text that could not be written is written again.
const consoleRetry = time.Minute

// consoleText is what the consoles show, empty for nothing. Everybody who stands before
// the machine reads it, so it contains no names. It contains no words of users, because
// agetty expands what follows a backslash.
func consoleText(v status.View) string {
	o := v.Observation
	screen := o.Facts.Is(observer.GraphicalSession) != observer.False || o.Facts.Is(observer.Greeter) != observer.False
	if screen && o.Inferred != policy.Compute {
		return ""
	}
	back := policy.Desktop
	if v.Lease != nil && v.Lease.BackTo != "" {
		back = v.Lease.BackTo
	}
	var b strings.Builder
	switch {
	case v.Running != nil:
		return fmt.Sprintf(
			"This machine is on its way to %s since %s: modectl status tells how far it is\n", v.Running.To,
			clock(v.Running.Started),
		)
	case o.State == observer.FailedTransition || o.State == observer.StateUnknown:
		fmt.Fprintf(&b, "This machine is in no known mode since %s", clock(v.ObservedSince))
	default:
		fmt.Fprintf(&b, "This machine is in %s since %s", o.State, clock(v.ObservedSince))
	}
	fmt.Fprintf(&b, "; back: log in and run: modectl request %s\n", back)
	if l := v.Lease; l != nil {
		b.WriteString(leaseText(*l))
	}
	return b.String()
}

// leaseText says when the mode ends by itself.
func leaseText(l status.Lease) string {
	var b strings.Builder
	switch {
	case l.ExpiredReason != "" && l.LastFailure != "":
		fmt.Fprintf(
			&b, "It is to go back to %s by itself and cannot yet: modectl status says why. It tries again.\n", l.BackTo,
		)
	case l.ExpiredReason != "":
		fmt.Fprintf(&b, "It goes back to %s now, by itself.\n", l.BackTo)
	default:
		if !l.ConfirmBy.IsZero() {
			fmt.Fprintf(
				&b, "It goes back to %s at %s, unless somebody runs: modectl confirm %d\n", l.BackTo, clock(l.ConfirmBy), l.ID,
			)
		}
		if !l.Until.IsZero() {
			fmt.Fprintf(&b, "It goes back to %s at %s, by itself.\n", l.BackTo, clock(l.Until))
		}
		if l.UntilIdle > 0 {
			fmt.Fprintf(&b, "It goes back to %s once vLLM has had no request for %s.\n", l.BackTo, l.UntilIdle)
		}
	}
	return b.String()
}

func clock(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// write writes the text to the file, or removes the file, and makes the consoles that
// wait for a login show it.
func (c *console) write(text string) error {
	path := filepath.Join(c.dir, "dubnium.issue")
	if text == "" {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := atomicfile.Remove(path); err != nil {
			return err
		}
		return c.reload()
	}
	// systemd creates the directory; a demo or a test may not.
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(path, []byte(text), 0o644); err != nil {
		return err
	}
	return c.reload()
}

// reload is `agetty --reload`: each agetty that waits for a login watches the times of
// this file, and creates it. Without the file no agetty waits.
func (c *console) reload() error {
	path := filepath.Join(filepath.Dir(c.dir), "agetty.reload")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot make the consoles read it: %w", err)
	}
	if err = unix.Futimes(int(file.Fd()), nil); err != nil {
		err = fmt.Errorf("cannot touch %s: %w", path, err)
	}
	return errors.Join(err, file.Close())
}

// put keeps the text up to date.
func (c *console) put(v status.View) {
	if v.Observation.State == observer.Boot {
		return // nothing was read yet, and what is there may be right
	}
	text, now := consoleText(v), c.now()
	if c.known && text == c.shown && (c.fault == nil || now < c.retryAt) {
		return
	}
	before := c.fault
	c.shown, c.known, c.retryAt = text, true, now+consoleRetry
	c.fault = c.write(text)
	switch {
	case c.fault != nil && before == nil:
		c.log.Warn("the consoles do not show how to leave compute", zap.Error(c.fault))
	case c.fault == nil && before != nil:
		c.log.Info("the consoles show how to leave compute again")
	}
}

func (c *console) warning() string {
	if c.fault == nil {
		return ""
	}
	return "the consoles do not show how to leave compute: " + c.fault.Error()
}

func (c *console) retry() time.Duration {
	if c.fault == nil {
		return 0
	}
	return c.retryAt
}
