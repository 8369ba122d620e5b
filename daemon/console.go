package daemon

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

// console is the text that the machine's consoles show before a login (agetty(8),
// ISSUE FILES), while they are all that there is of a screen.
type console struct {
	dir string
	// shown is what is in the file, as far as this daemon knows.
	shown   string
	known   bool
	fault   error
	retryAt time.Duration
}

// consoleRetry is how long a text that could not be written waits.
const consoleRetry = time.Minute

// consoleText is what the consoles show, empty for nothing. It is for whoever stands
// before the machine and is not logged in: it tells no name, and no word in it is
// anybody's but ours, since agetty expands what follows a backslash.
func consoleText(v status.View) string {
	o := v.Observation
	if o.Inferred != policy.Compute && (o.Facts.Is(observer.GraphicalSession) != observer.False || o.Facts.Is(observer.Greeter) != observer.False) {
		return ""
	}
	back := policy.Desktop
	if v.Lease != nil && v.Lease.BackTo != "" {
		back = v.Lease.BackTo
	}
	var b strings.Builder
	switch {
	case v.Running != nil:
		return fmt.Sprintf("This machine is on its way to %s since %s: modectl status tells how far it is\n", v.Running.To, clock(v.Running.Started))
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
		fmt.Fprintf(&b, "It is to go back to %s by itself and cannot yet: modectl status says why. It tries again.\n", l.BackTo)
	case l.ExpiredReason != "":
		fmt.Fprintf(&b, "It goes back to %s now, by itself.\n", l.BackTo)
	default:
		if !l.ConfirmBy.IsZero() {
			fmt.Fprintf(&b, "It goes back to %s at %s, unless somebody runs: modectl confirm %d\n", l.BackTo, clock(l.ConfirmBy), l.ID)
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

// write puts the text into the file, or takes the file away, and has the consoles
// that wait for a login show it.
func (c *console) write(text string) error {
	path := filepath.Join(c.dir, "dubnium.issue")
	if text == "" {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil // nobody has seen anything
		}
		if err := atomicfile.Remove(path); err != nil {
			return err
		}
		return c.reload()
	}
	// systemd makes the directory; a demo or a test may not have.
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(path, []byte(text), 0o644); err != nil {
		return err
	}
	return c.reload()
}

// reload is `agetty --reload`: each agetty that waits for a login watches this file's
// times, and makes it when it is not there. Where it is not, nobody waits.
func (c *console) reload() error {
	path := filepath.Join(filepath.Dir(c.dir), "agetty.reload")
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot have the consoles read it: %w", err)
	}
	if err = unix.Futimes(int(file.Fd()), nil); err != nil {
		err = fmt.Errorf("cannot touch %s: %w", path, err)
	}
	return errors.Join(err, file.Close())
}

// showConsole keeps the consoles' text what the state is. It reports whether its
// warning is another one now. What cannot be written is a warning and no more.
func (e *Controller) showConsole(v status.View) (changed bool) {
	c := &e.console
	now := e.now()
	if v.Observation.State == observer.Boot {
		return false // nobody has looked yet: what is there may be right
	}
	text := consoleText(v)
	if c.known && text == c.shown && (c.fault == nil || now < c.retryAt) {
		return false
	}
	before := c.fault
	c.shown, c.known, c.retryAt = text, true, now+consoleRetry
	c.fault = c.write(text)
	if (c.fault == nil) == (before == nil) {
		return false
	}
	if c.fault != nil {
		e.log.Warn("the consoles do not show the way back", zap.Error(c.fault))
	} else {
		e.log.Info("the consoles show the way back again")
	}
	return true
}
