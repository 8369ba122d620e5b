// Package busapi is the D-Bus contract of Dubnium: the names, the introspection
// XML, the errors, and how the values of daemon/status travel. It acts on
// nothing; busapi/server serves the contract, busapi/client speaks it.
//
// Failure semantics: encoding never fails, because a value that D-Bus cannot
// carry (text that is not UTF-8) is made carriable. Decoding is strict about
// types and lenient about keys: a key that is missing is the zero value, one
// that is unknown is ignored, one of another type than the contract's is an
// error that names it.
package busapi

import (
	_ "embed"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/policy"
)

// The names. BusName and Interface are the same word, as the specification
// recommends.
const (
	BusName   = "org.dubnium.Mode1"
	Interface = "org.dubnium.Mode1"
	Path      = dbus.ObjectPath("/org/dubnium/Mode1")

	// The names of the connections that serve nothing. The bus policy keeps everybody
	// from sending to them.
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

	// OptionTarget, of Reconcile, is the mode to take the host to.
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

// FlagNoWait, of RequestMode, is for root: delay inhibitors are not waited for.
const FlagNoWait uint64 = 1

// The bounds of what a caller may ask.
const (
	// MaxReason bounds the requester's own words, in bytes: they are stored and
	// broadcast.
	MaxReason = 256
	// MaxGrace bounds grace_seconds and what PostponeTransition takes: a day.
	MaxGrace = 24 * 60 * 60
	// MaxTerm bounds for_seconds, until_idle_seconds and confirm_seconds: a month.
	MaxTerm = 31 * 24 * 60 * 60
	// DefaultHistory is how many records History returns without a limit.
	DefaultHistory = 20
	// MaxHistory bounds the limit, and with it the size of a reply: one above
	// 32 MiB costs the daemon its connection.
	MaxHistory = 1000
)

// ActionEndOtherSessions is the polkit action for ending the graphical sessions
// of other people than the requester.
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

// XML is the introspection document, hand-written and served as it is. A test
// holds it against what the server exports and docs/dbus-api.md.
//
//go:embed org.dubnium.Mode1.xml
var XML string

// Dict is an a{sv}.
type Dict = map[string]dbus.Variant
