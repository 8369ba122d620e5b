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

// policyTarget accepts a reloaded policy; *daemon.Controller implements it.
type policyTarget interface {
	Reload(ctx context.Context, next policy.Document) (later <-chan error, err error)
	PolicyRefused(ctx context.Context, why string) error
}

// reloader reads the policy again on SIGHUP (systemctl reload). A policy with errors is
// rejected as a whole: each finding is logged, the unit's status and the daemon's warnings
// have the first, and the previous policy stays in force.
type reloader struct {
	file       string
	controller policyTarget
	log        *zap.Logger
	notify     func(log *zap.Logger, state string)
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

// reload notifies systemd of its begin, with the time, and its end (sd_notify(3)). It does
// not keep systemctl waiting for a policy that waits for a transition, which may take many
// minutes.
func (r *reloader) reload(ctx context.Context) {
	r.notify(r.log, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec())
	next, err := policy.LoadDocument(r.file)
	var later <-chan error
	if err == nil {
		later, err = r.controller.Reload(ctx, next)
	}
	if later == nil {
		r.notify(r.log, sd.SdNotifyReady+"\nSTATUS="+r.outcome(ctx, err))
		return
	}
	r.log.Info("the new policy waits for the running transition to end", zap.String("policy", r.file))
	r.notify(r.log, sd.SdNotifyReady+"\nSTATUS=a new policy waits for the running transition to end")
	go func() { // the controller replies at the latest when it stops
		if err := <-later; !errors.Is(err, daemon.ErrSuperseded) { // the newer policy has set the status
			r.notify(r.log, "STATUS="+r.outcome(ctx, err))
		}
	}()
}

// outcome logs the result of a reload, and returns it as a line. The daemon publishes a
// rejection until another policy is accepted.
func (r *reloader) outcome(ctx context.Context, err error) string {
	if err == nil {
		return oneLine("the policy of %s is in force", r.file)
	}
	findings := policy.Findings(err)
	for _, f := range findings {
		r.log.Error("policy rejected", zap.Stringer("finding", f))
	}
	var line string
	if len(findings) > 0 {
		line = oneLine("new policy rejected, previous policy still in force: %s%s", findings[0], more(len(findings)-1))
	} else {
		r.log.Error("cannot reload the policy", zap.Error(err))
		line = oneLine("cannot reload the policy, previous policy still in force: %v", err)
	}
	if err := r.controller.PolicyRefused(ctx, line); err != nil {
		r.log.Warn("cannot publish that the policy was rejected", zap.Error(err))
	}
	return line
}

// oneLine formats a line without newlines: in a message to systemd they begin another
// assignment.
func oneLine(format string, args ...any) string {
	return strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
}

func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}
