package busapi

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
)

// The refusals that the bus side itself makes; those of the engine are in
// daemon/status.
var (
	// ErrUnknownMode: the host's policy offers no mode of that name.
	ErrUnknownMode = errors.New("unknown mode")
	// ErrUnknownGuard: this version has no guard of that name.
	ErrUnknownGuard = errors.New("unknown guard")
	// ErrHardGuard: the guard cannot be forced.
	ErrHardGuard = errors.New("a hard guard")
	// ErrBadOption: an option, a filter key or a flag bit that is not known or
	// makes no sense.
	ErrBadOption = errors.New("bad option")
	// ErrRateLimited: the same user asked a moment ago.
	ErrRateLimited = errors.New("asked too often")
	// ErrAccessDenied: polkit did not say yes.
	ErrAccessDenied = errors.New("access denied")
	// ErrInteractionRequired: a password would help, and the message did not allow
	// asking for one.
	ErrInteractionRequired = errors.New("authentication is required")
	// ErrInvalidArgs: the message's arguments are not those of the method.
	ErrInvalidArgs = errors.New("invalid arguments")
	// The others that a message for something else than a method of ours gets.
	ErrUnknownInterface = errors.New("unknown interface")
	ErrUnknownObject    = errors.New("unknown object")
	ErrUnknownMethod    = errors.New("unknown method")
	ErrUnknownProperty  = errors.New("unknown property")
	ErrPropertyReadOnly = errors.New("the property is read-only")
	// ErrInternal: a defect of the daemon. It goes on; the details are in its log.
	ErrInternal = errors.New("internal error")
)

const (
	ownError      = "org.dubnium.Mode1.Error."
	standardError = "org.freedesktop.DBus.Error."
	// failedError is the name for errors that no client needs to tell apart.
	failedError = standardError + "Failed"
)

// errorTable is the one place where a sentinel meets its D-Bus name, in both
// directions. next says what the caller can do about it; it ends the text that
// travels, so that busctl shows it too.
var errorTable = []struct {
	sentinel error
	name     string
	next     string
}{
	{ErrUnknownMode, ownError + "UnknownMode", "the property Modes lists the modes of this host"},
	{ErrUnknownGuard, ownError + "UnknownGuard", "modectl guard --help lists the guards"},
	{ErrHardGuard, ownError + "HardGuard", "clear what it says; modectl guards MODE shows the remedy"},
	{ErrBadOption, ownError + "BadOption", "leave it out, or see docs/dbus-api.md for what is known"},
	{ErrRateLimited, ownError + "RateLimited", "ask again in a while"},
	{status.ErrBusy, ownError + "Busy", "wait until it has finished (modectl status) and ask again"},
	{status.ErrStalePlan, ownError + "StalePlan", "look at the plan again (modectl dry-run) and ask for that"},
	{status.ErrNoSuchTransition, ownError + "NoSuchTransition", "modectl history lists the ids that are kept"},
	{status.ErrNotCancellable, ownError + "NotCancellable", "modectl status shows how far it is"},
	{status.ErrNotPostponable, ownError + "NotPostponable", "modectl status shows when it goes on"},
	{status.ErrNoSuchInhibitor, ownError + "NoSuchInhibitor", "the property Inhibitors lists those that are held"},
	{
		status.ErrTooMany, ownError + "LimitExceeded",
		"answer the open password prompts or release what is held, and ask again",
	},
	{status.ErrShuttingDown, ownError + "ShuttingDown", "ask again when it runs again (systemctl status dubniumd)"},
	{ErrAccessDenied, standardError + "AccessDenied", "ask as root, or have an administrator grant the action in polkit"},
	{
		ErrInteractionRequired, standardError + "InteractiveAuthorizationRequired",
		"ask again as root, or from a client that may ask for a password",
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
	{ErrUnknownInterface, standardError + "UnknownInterface", "the properties are those of " + Interface},
	{
		ErrUnknownProperty, standardError + "UnknownProperty",
		"busctl introspect " + BusName + " " + string(Path) + " lists them",
	},
	{ErrPropertyReadOnly, standardError + "PropertyReadOnly", "a mode is asked for with RequestMode"},
	{ErrInternal, failedError, "see the daemon's log (journalctl -u dubniumd)"},
}

// MaxErrorText bounds the text of an error reply, in bytes. An error may quote what the
// caller sent.
const MaxErrorText = 1024

// ToDBus turns an error into the reply that travels: the name of the sentinel
// it wraps, and its text, shortened, with what to do next. Any other error is the
// standard Failed with its text alone.
func ToDBus(err error) *dbus.Error {
	name, said, next := failedError, err.Error(), ""
	for _, e := range errorTable {
		if errors.Is(err, e.sentinel) {
			name, next = e.name, "; "+e.next
			break
		}
	}
	return dbus.NewError(name, []any{Short(text(said), MaxErrorText-len(next)) + next})
}

// Short cuts a text that is longer than most bytes off, at the end of a character.
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

// FromDBus turns an error reply of the daemon back into an error that wraps the
// sentinel and reads as the text that travelled. An error that is no reply of
// the daemon, or of a name that the contract does not know, is returned as it
// is.
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

// remoteError reads as the daemon's text and is the sentinel.
type remoteError struct {
	sentinel error
	text     string
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.sentinel }

// Refuse makes an error that reads as the formatted text and is the sentinel:
// the text says what was wrong better than the sentinel's own words.
func Refuse(sentinel error, format string, args ...any) error {
	return remoteError{sentinel, fmt.Sprintf(format, args...)}
}
