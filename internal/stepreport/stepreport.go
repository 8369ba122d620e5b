// Package stepreport reports the progress of a step and notes for its record, besides its
// success or failure. The reporter is in the context of the step, so that step handlers do
// not depend on it. Without a reporter the reports are dropped.
package stepreport

import (
	"context"

	"github.com/dubnium/dubnium/observer"
)

// Reporter receives the reports, on the goroutine of the step.
type Reporter interface {
	// Progress describes the progress of the step. It may be called any number of times.
	Progress(text string)
	// Note adds a text to the record. secrets are the parts of it about users' processes.
	Note(text string, secrets []observer.Secret)
	// Residual adds to the record the memory that is in use after a release of GPUs.
	Residual(inUse []observer.GPUMemory)
}

type key struct{}

// With returns a context with the reporter r.
func With(ctx context.Context, r Reporter) context.Context { return context.WithValue(ctx, key{}, r) }

// Progress reports the progress of the step of ctx.
func Progress(ctx context.Context, text string) {
	if r, ok := ctx.Value(key{}).(Reporter); ok {
		r.Progress(text)
	}
}

// Note adds a text to the record of the step of ctx.
func Note(ctx context.Context, text string, secrets []observer.Secret) {
	if r, ok := ctx.Value(key{}).(Reporter); ok {
		r.Note(text, secrets)
	}
}

// Residual adds the memory in use after a release of GPUs to the record of the step of ctx.
func Residual(ctx context.Context, inUse []observer.GPUMemory) {
	if r, ok := ctx.Value(key{}).(Reporter); ok {
		r.Residual(inUse)
	}
}
