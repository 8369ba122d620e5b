package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/daemon"
	"github.com/dubnium/dubnium/policy"
)

// governed is what a policy is reloaded into.
type governed interface {
	Reload(ctx context.Context, next policy.Document) (later <-chan error, err error)
	PolicyRefused(ctx context.Context, why string) error
}

// reloader reads the policy again when it is asked to (SIGHUP, systemctl reload).
// A policy with a fault is rejected as a whole: each finding is a line of the log,
// the unit's status and the daemon's warnings say so, and the previous policy stays in
// force.
type reloader struct {
	file       string
	controller governed
	log        *zap.Logger
	tell       func(log *zap.Logger, state string)
}

func (r *reloader) run(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.reload(ctx)
		}
	}
}

// reload tells systemd when it begins and when it has ended (sd_notify(3), which
// wants the time of the beginning too). A policy that has to wait for a
// transition does not keep systemctl waiting: that may be many minutes.
func (r *reloader) reload(ctx context.Context) {
	r.tell(r.log, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec())
	next, err := policy.LoadDocument(r.file)
	var later <-chan error
	if err == nil {
		later, err = r.controller.Reload(ctx, next)
	}
	if later == nil {
		r.tell(r.log, sd.SdNotifyReady+"\nSTATUS="+r.outcome(ctx, err))
		return
	}
	r.log.Info("the new policy waits for the running transition to end", zap.String("policy", r.file))
	r.tell(r.log, sd.SdNotifyReady+"\nSTATUS=a new policy waits for the running transition to end")
	go func() { // the engine answers, at the latest when it stops
		if err := <-later; !errors.Is(err, daemon.ErrSuperseded) { // of that one the status tells already
			r.tell(r.log, "STATUS="+r.outcome(ctx, err))
		}
	}()
}

// outcome logs how a reload went, and returns a line that says so. The daemon
// publishes a rejection until another policy is accepted.
func (r *reloader) outcome(ctx context.Context, err error) string {
	if err == nil {
		return oneLine("the policy of %s is in force", r.file)
	}
	findings := policy.Findings(err)
	for _, f := range findings {
		r.log.Error("policy rejected", zap.Stringer("finding", f))
	}
	var told string
	if len(findings) > 0 {
		told = oneLine("new policy rejected, previous policy still in force: %s%s", findings[0], more(len(findings)-1))
	} else {
		r.log.Error("cannot reload the policy", zap.Error(err))
		told = oneLine("cannot reload the policy, previous policy still in force: %v", err)
	}
	if err := r.controller.PolicyRefused(ctx, told); err != nil {
		r.log.Warn("cannot publish that the policy was rejected", zap.Error(err))
	}
	return told
}

// oneLine keeps what a file or an error says from being another assignment.
func oneLine(format string, args ...any) string {
	return strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
}

func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}
