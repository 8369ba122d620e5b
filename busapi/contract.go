// Package busapi is the D-Bus contract of Dubnium: the names, the introspection XML,
// the errors, and the encoding of the values of daemon/status. It is pure;
// busapi/server serves the contract, busapi/client uses it.
//
// Failure semantics: encoding never fails; what D-Bus cannot carry (invalid UTF-8) is
// replaced. Decoding is strict about types and lenient about keys: a missing key is the
// zero value, an unknown one is ignored, and a value of another type than the
// contract's is an error that names the key.
package busapi

import (
	_ "embed"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/policy"
)

// The names. BusName and Interface are equal, as the specification recommends.
const (
	BusName   = "org.dubnium.Mode1"
	Interface = "org.dubnium.Mode1"
	Path      = dbus.ObjectPath("/org/dubnium/Mode1")

	// The names of the connections that serve nothing. The bus policy forbids sending
	// to them.
	HostName          = BusName + ".Host"          // to systemd and logind
	PolkitName        = BusName + ".Polkit"        // to polkit
	AudioPriorityName = BusName + ".AudioPriority" // of audio-priority.service

	PropertiesInterface     = "org.freedesktop.DBus.Properties"
	IntrospectableInterface = "org.freedesktop.DBus.Introspectable"
	PeerInterface           = "org.freedesktop.DBus.Peer"
)

// The signals.
const (
	SignalStateChanged       = "StateChanged"
	SignalTransitionStarted  = "TransitionStarted"
	SignalTransitionStep     = "TransitionStep"
	SignalTransitionProgress = "TransitionProgress"
	SignalTransitionFinished = "TransitionFinished"
	SignalPrepare            = "PrepareForTransition"
)

// The options of RequestMode.
const (
	OptionReason = "reason"
	OptionPlan   = "plan_fingerprint"
	OptionGrace  = "grace_seconds"

	// OptionTarget, of Reconcile, is the mode to enter.
	OptionTarget = "target"

	// The terms on which a mode ends by itself.
	OptionFor       = "for_seconds"
	OptionUntilIdle = "until_idle_seconds"
	OptionConfirm   = "confirm_seconds"
)

// The answers of CanRequest.
const (
	AnswerYes       = "yes"
	AnswerChallenge = "challenge"
	AnswerNo        = "no"
)

// FlagNoWait, of RequestMode, ignores delay inhibitors (root).
const FlagNoWait uint64 = 1

// The bounds of arguments.
const (
	// MaxReason bounds the reason of a request, in bytes: it is stored and broadcast.
	MaxReason = 256
	// MaxGrace bounds grace_seconds and the seconds of PostponeTransition: a day.
	MaxGrace = 24 * 60 * 60
	// MaxTerm bounds for_seconds, until_idle_seconds and confirm_seconds: a month.
	MaxTerm = 31 * 24 * 60 * 60
	// DefaultHistory is the limit of History by default.
	DefaultHistory = 20
	// MaxHistory bounds the limit, and with it the size of a reply: the bus closes the
	// connection of a daemon that sends more than 32 MiB.
	MaxHistory = 1000
)

// ActionEndOtherSessions is the polkit action for ending the graphical sessions of
// users other than the requester.
const ActionEndOtherSessions = "org.dubnium.mode1.end-other-sessions"

// The other polkit actions.
const (
	ActionForce        = "org.dubnium.mode1.force"
	ActionCancel       = "org.dubnium.mode1.cancel"
	ActionInhibitBlock = "org.dubnium.mode1.inhibit-block"
	ActionInhibitDelay = "org.dubnium.mode1.inhibit-delay"
)

// ActionRequest names the polkit action for a request of mode.
func ActionRequest(mode policy.Mode) string { return "org.dubnium.mode1.request-" + string(mode) }

// XML is the introspection document, served unchanged. Tests compare it with the
// exports of the server and with docs/dbus-api.md.
//
//go:embed org.dubnium.Mode1.xml
var XML string

// Dict is an a{sv}.
type Dict = map[string]dbus.Variant
