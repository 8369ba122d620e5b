package main

import (
	"errors"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/busapi/client"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
)

// The exit codes are a contract with scripts; `modectl request --help` lists them.
// 10 to 29 are the guards' own.
const (
	exitOK             = 0
	exitInhibited      = 13
	exitMisuse         = 30
	exitNotAuthorized  = 40
	exitNotReachable   = 41
	exitBusy           = 42
	exitCanceled       = 43
	exitStalePlan      = 44
	exitDegraded       = 50
	exitFailed         = 51
	exitTimedOut       = 52
	exitRolledBack     = 53
	exitRollbackFailed = 54
	exitInterrupted    = 55
	// exitSignal is what a shell reports of a command that was interrupted.
	exitSignal = 130
)

// exit is an error that decides the exit code. A nil cause prints nothing: the
// output of the command says why.
type exit struct {
	code  int
	cause error
}

func (e exit) Error() string {
	if e.cause == nil {
		return ""
	}
	return e.cause.Error()
}

func (e exit) Unwrap() error { return e.cause }

// errorCodes maps the errors that end a command before there is a result.
var errorCodes = []struct {
	err  error
	code int
}{
	{client.ErrStopped, exitSignal},
	{client.ErrNoBus, exitNotReachable},
	{client.ErrNotRunning, exitNotReachable},
	{client.ErrNoAnswer, exitNotReachable},
	{client.ErrOutcomeUnknown, exitNotReachable},
	{status.ErrShuttingDown, exitNotReachable},
	{busapi.ErrAccessDenied, exitNotAuthorized},
	{busapi.ErrInteractionRequired, exitNotAuthorized},
	{status.ErrBusy, exitBusy},
	{status.ErrStalePlan, exitStalePlan},
	{busapi.ErrRateLimited, exitBusy},
	{busapi.ErrUnknownMode, exitMisuse},
	{busapi.ErrUnknownGuard, exitMisuse},
	{busapi.ErrBadOption, exitMisuse},
	{busapi.ErrHardGuard, exitMisuse},
	{busapi.ErrInvalidArgs, exitMisuse},
	{status.ErrNoSuchTransition, exitMisuse},
	{status.ErrNoSuchInhibitor, exitMisuse},
	{status.ErrNotCancellable, exitBusy},
	{status.ErrNotPostponable, exitBusy},
	{status.ErrTooMany, exitBusy},
}

// hints are the remedies of the client's own errors. The daemon's refusals contain
// theirs.
var hints = []struct {
	err  error
	hint string
}{
	{client.ErrNoBus, "is dbus running? (systemctl status dbus)"},
	{client.ErrNotRunning, "start it with: systemctl start dubniumd"},
	{client.ErrNoAnswer, "see: systemctl status dubniumd"},
	{client.ErrOutcomeUnknown, "see: modectl status"},
}

// failure adds the exit code and the hint to an error of a call.
func failure(err error) error {
	if err == nil {
		return nil
	}
	var ended exit
	if errors.As(err, &ended) {
		return ended
	}
	code := exitFailed
	for _, e := range errorCodes {
		if errors.Is(err, e.err) {
			code = e.code
			break
		}
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return exit{code, hinted{err, h.hint}}
		}
	}
	return exit{code, err}
}

// hinted is an error with its remedy.
type hinted struct {
	error
	hint string
}

func (h hinted) Error() string { return h.error.Error() + "; " + h.hint }
func (h hinted) Unwrap() error { return h.error }

// resultCodes maps the results that have a code of their own.
var resultCodes = map[status.Result]int{
	status.Success:        exitOK,
	status.Noop:           exitOK,
	status.Canceled:       exitCanceled,
	status.Degraded:       exitDegraded,
	status.Failed:         exitFailed,
	status.TimedOut:       exitTimedOut,
	status.RolledBack:     exitRolledBack,
	status.RollbackFailed: exitRollbackFailed,
	status.Interrupted:    exitInterrupted,
	status.Inhibited:      exitInhibited,
}

// resultCode is the exit code of a finished transition. A result that this version
// does not know counts as a failure.
func resultCode(r status.Record) int {
	if r.Result == status.Blocked || r.Result == status.Inhibited {
		if code, found := guardCode(r.Guards); found {
			return code
		}
	}
	if code, known := resultCodes[r.Result]; known {
		return code
	}
	return exitFailed
}

// guardCode is the code of the first guard that blocks.
func guardCode(verdicts []guards.Verdict) (int, bool) {
	for _, v := range verdicts {
		if code := int(v.Code); !v.OK && code >= 10 && code <= 29 {
			return code, true
		}
	}
	return 0, false
}
