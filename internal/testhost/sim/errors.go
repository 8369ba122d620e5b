package sim

import "fmt"

// Error is a refusal, with the D-Bus name that the real service uses
// (systemd: src/libsystemd/sd-bus/bus-common-errors.h).
type Error struct {
	Name string
	Text string
}

// Error gives the text alone, as a D-Bus client shows it.
func (e *Error) Error() string { return e.Text }

// The error names of systemd and logind that the model answers with.
const (
	ErrNoSuchUnit        = "org.freedesktop.systemd1.NoSuchUnit"
	ErrNoSuchJob         = "org.freedesktop.systemd1.NoSuchJob"
	ErrUnitMasked        = "org.freedesktop.systemd1.UnitMasked"
	ErrLoadFailed        = "org.freedesktop.systemd1.LoadFailed"
	ErrOnlyByDependency  = "org.freedesktop.systemd1.OnlyByDependency"
	ErrNoIsolation       = "org.freedesktop.systemd1.NoIsolation"
	ErrDestructive       = "org.freedesktop.systemd1.TransactionIsDestructive"
	ErrConflicting       = "org.freedesktop.systemd1.TransactionJobsConflicting"
	ErrNotApplicable     = "org.freedesktop.systemd1.JobTypeNotApplicable"
	ErrNotSubscribed     = "org.freedesktop.systemd1.NotSubscribed"
	ErrAlreadySubscribed = "org.freedesktop.systemd1.AlreadySubscribed"
	ErrNoSuchProcess     = "org.freedesktop.systemd1.NoSuchProcess"
	ErrNoSuchSession     = "org.freedesktop.login1.NoSuchSession"
	ErrNoSessionForPID   = "org.freedesktop.login1.NoSessionForPID"
	ErrNoSuchUser        = "org.freedesktop.login1.NoSuchUser"
	ErrInvalidArgs       = "org.freedesktop.DBus.Error.InvalidArgs"
	ErrPropertyReadOnly  = "org.freedesktop.DBus.Error.PropertyReadOnly"
	ErrFileNotFound      = "org.freedesktop.DBus.Error.FileNotFound"
)

func refuse(name, format string, args ...any) *Error {
	return &Error{Name: name, Text: fmt.Sprintf(format, args...)}
}
