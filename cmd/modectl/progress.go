package main

import (
	"fmt"
	"io"

	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/daemon/status"
)

// progress shows how a transition goes on: on a terminal one line that is
// written over, elsewhere a line for each step that begins and for each that
// went wrong.
type progress struct {
	out     io.Writer
	redraws bool
	drawn   bool
}

// clearLine goes back to the line's start and erases it (ECMA-48: CR, EL).
const clearLine = "\r\x1b[K"

func (p *progress) step(s status.StepEvent) {
	p.show(render.Step(s), s.Status != status.StepDone && s.Status != status.StepPending)
}

// further is for who watches: elsewhere nobody needs a line every few seconds.
func (p *progress) further(s status.StepProgress) { p.show(render.Progress(s), false) }

// announced is a line of its own only where somebody has to wait for it.
func (p *progress) announced(a status.Prepare) {
	p.show(render.Announced(a), !a.Deadline.IsZero())
}

func (p *progress) show(line string, matters bool) {
	switch {
	case p.redraws:
		fmt.Fprint(p.out, clearLine+line)
		p.drawn = true
	case matters:
		fmt.Fprintln(p.out, line)
	}
}

// end leaves an empty line for whatever comes next.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.out, clearLine)
	}
}
