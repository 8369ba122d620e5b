// Package stepreport carries what a step has to tell beside whether it was done: how far
// it is, and what whoever reads the record has to know although it was done. It is
// in a step's context, so that what a step does need not know who listens; where
// nobody does, it is lost, and nothing else.
package stepreport

import (
	"context"

	"github.com/dubnium/dubnium/observer"
)

// Reporter hears it, from the goroutine of the step.
type Reporter interface {
	// Progress says how far the step is, in a few words, as often as it likes.
	Progress(text string)
	// Note is for the record. Secrets are what its text may tell of people's
	// processes.
	Note(text string, secrets []observer.Secret)
	// Residual is for the record: the memory that a release of GPUs left in use.
	Residual(inUse []observer.GPUMemory)
}

type key struct{}

// With returns a context whose asides l hears.
func With(ctx context.Context, l Reporter) context.Context { return context.WithValue(ctx, key{}, l) }

// Progress says how far the step of ctx is.
func Progress(ctx context.Context, text string) {
	if l, ok := ctx.Value(key{}).(Reporter); ok {
		l.Progress(text)
	}
}

// Note puts a text into the record of the step of ctx.
func Note(ctx context.Context, text string, secrets []observer.Secret) {
	if l, ok := ctx.Value(key{}).(Reporter); ok {
		l.Note(text, secrets)
	}
}

// Residual puts what a release of GPUs left in use into the record of the step of ctx.
func Residual(ctx context.Context, inUse []observer.GPUMemory) {
	if l, ok := ctx.Value(key{}).(Reporter); ok {
		l.Residual(inUse)
	}
}
