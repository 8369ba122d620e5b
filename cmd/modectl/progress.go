package main

import (
	"fmt"
	"io"

	"github.com/dubnium/dubnium/cmd/modectl/render"
	"github.com/dubnium/dubnium/daemon/status"
)

// progress shows the progress of a transition: on a terminal one line that is
// overwritten, elsewhere a line for each step that begins and each that fails.
type progress struct {
	out     io.Writer
	redraws bool
	drawn   bool
}

// clearLine returns to the start of the line and erases it (ECMA-48: CR, EL).
const clearLine = "\r\x1b[K"

func (p *progress) step(s status.StepEvent) {
	p.show(render.Step(s), s.Status != status.StepDone && s.Status != status.StepPending)
}

// stepProgress is shown on a terminal only: a log needs no line every few seconds.
func (p *progress) stepProgress(s status.StepProgress) { p.show(render.Progress(s), false) }

// announced is logged only if the transition waits for its deadline.
func (p *progress) announced(a status.Prepare) {
	p.show(render.Announced(a), !a.Deadline.IsZero())
}

func (p *progress) show(line string, logged bool) {
	switch {
	case p.redraws:
		fmt.Fprint(p.out, clearLine+line)
		p.drawn = true
	case logged:
		fmt.Fprintln(p.out, line)
	}
}

// end erases the line.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.out, clearLine)
	}
}
