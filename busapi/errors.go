package busapi

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
)

// The refusals of the bus side. Those of the controller are in daemon/status.
var (
	// ErrUnknownMode: the policy of the host has no mode of that name.
	ErrUnknownMode = errors.New("unknown mode")
	// ErrUnknownGuard: this version has no guard of that name.
	ErrUnknownGuard = errors.New("unknown guard")
	// ErrHardGuard: the guard cannot be skipped.
	ErrHardGuard = errors.New("a hard guard")
	// ErrBadOption: an unknown or invalid option, filter key or flag bit.
	ErrBadOption = errors.New("bad option")
	// ErrRateLimited: the user called too often.
	ErrRateLimited = errors.New("called too often")
	// ErrAccessDenied: polkit did not authorize the call.
	ErrAccessDenied = errors.New("access denied")
	// ErrInteractionRequired: the action needs a password, and the message did not
	// permit a prompt.
	ErrInteractionRequired = errors.New("authentication is required")
	// ErrInvalidArgs: the arguments do not fit the method.
	ErrInvalidArgs = errors.New("invalid arguments")
	// The errors of messages that address no method of this interface.
	ErrUnknownInterface = errors.New("unknown interface")
	ErrUnknownObject    = errors.New("unknown object")
	ErrUnknownMethod    = errors.New("unknown method")
	ErrUnknownProperty  = errors.New("unknown property")
	ErrPropertyReadOnly = errors.New("the property is read-only")
	// ErrInternal: a defect of the daemon, which continues. Its log has the details.
	ErrInternal = errors.New("internal error")
)

const (
	ownError      = "org.dubnium.Mode1.Error."
	standardError = "org.freedesktop.DBus.Error."
	// failedError is the name of errors that clients need not distinguish.
	failedError = standardError + "Failed"
)

// errorTable maps sentinels to D-Bus names and back. next is the remedy; it ends the
// text of the reply, so that busctl shows it too.
var errorTable = []struct {
	sentinel error
	name     string
	next     string
}{
	{ErrUnknownMode, ownError + "UnknownMode", "the property Modes lists the modes of this host"},
	{ErrUnknownGuard, ownError + "UnknownGuard", "modectl guard --help lists the guards"},
	{ErrHardGuard, ownError + "HardGuard", "remove its cause; modectl guards MODE shows the remedy"},
	{ErrBadOption, ownError + "BadOption", "remove the option; see `modectl request --help`"},
	{ErrRateLimited, ownError + "RateLimited", "try again later"},
	{status.ErrBusy, ownError + "Busy", "wait until it has finished (modectl status) and try again"},
	{status.ErrStalePlan, ownError + "StalePlan", "print the plan again (modectl dry-run) and request that"},
	{status.ErrNoSuchTransition, ownError + "NoSuchTransition", "modectl history lists the ids that are kept"},
	{status.ErrNotCancellable, ownError + "NotCancellable", "modectl status shows its progress"},
	{status.ErrNotPostponable, ownError + "NotPostponable", "modectl status shows its progress"},
	{status.ErrNoSuchInhibitor, ownError + "NoSuchInhibitor", "modectl inhibit --list shows the inhibitors"},
	{
		status.ErrTooMany, ownError + "LimitExceeded",
		"answer open password prompts or release inhibitors, and try again",
	},
	{status.ErrShuttingDown, ownError + "ShuttingDown", "try again when it is running (systemctl status dubniumd)"},
	{ErrAccessDenied, standardError + "AccessDenied", "run it as root, or have polkit grant the action"},
	{
		ErrInteractionRequired, standardError + "InteractiveAuthorizationRequired",
		"run it as root, or from a client that can prompt for a password",
	},
	{
		ErrInvalidArgs, standardError + "InvalidArgs",
		"busctl introspect " + BusName + " " + string(Path) + " shows the signatures",
	},
	{ErrUnknownObject, standardError + "UnknownObject", "the object is " + string(Path)},
	{
		ErrUnknownMethod, standardError + "UnknownMethod",
		"busctl introspect " + BusName + " " + string(Path) + " lists the methods",
	},
	{ErrUnknownInterface, standardError + "UnknownInterface", "the properties belong to " + Interface},
	{
		ErrUnknownProperty, standardError + "UnknownProperty",
		"busctl introspect " + BusName + " " + string(Path) + " lists them",
	},
	{ErrPropertyReadOnly, standardError + "PropertyReadOnly", "RequestMode requests a mode"},
	{ErrInternal, failedError, "see the daemon's log (journalctl -u dubniumd)"},
}

// MaxErrorText bounds the text of an error reply, in bytes. An error may quote the
// arguments of the caller.
const MaxErrorText = 1024

// ToDBus makes the reply for an error: the name of the sentinel that it wraps, and its
// text, shortened, with the remedy. Any other error is the standard Failed with its
// text alone.
func ToDBus(err error) *dbus.Error {
	name, reason, next := failedError, err.Error(), ""
	for _, e := range errorTable {
		if errors.Is(err, e.sentinel) {
			name, next = e.name, "; "+e.next
			break
		}
	}
	return dbus.NewError(name, []any{Short(text(reason), MaxErrorText-len(next)) + next})
}

// Short truncates a text to most bytes, at the end of a character.
func Short(s string, most int) string {
	const cut = "..."
	if len(s) <= most {
		return s
	}
	end := most - len(cut)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + cut
}

// FromDBus turns an error reply of the daemon into an error that wraps the sentinel and
// has the text of the reply. Any other error, and a reply with an unknown name, is
// returned unchanged.
func FromDBus(err error) error {
	var reply dbus.Error
	if !errors.As(err, &reply) {
		return err
	}
	for _, e := range errorTable {
		if e.name == reply.Name {
			return remoteError{e.sentinel, reply.Error()}
		}
	}
	return err
}

// remoteError has a text of its own and wraps the sentinel.
type remoteError struct {
	sentinel error
	text     string
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.sentinel }

// Refuse makes an error that wraps the sentinel and has the formatted text alone.
func Refuse(sentinel error, format string, args ...any) error {
	return remoteError{sentinel, fmt.Sprintf(format, args...)}
}
