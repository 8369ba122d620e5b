package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/dubnium/dubnium/daemon/status"
)

// How far a step is is for who watches: a log gets no line every few seconds.
func TestHowFarAStepIsIsWrittenOverAndNotLogged(t *testing.T) {
	loading := status.StepProgress{Index: 8, Count: 9, Step: "await-vllm-healthy", Text: "loading, 40 s of 600 s\x1b[2J"}
	var terminal, log strings.Builder
	watched, logged := progress{out: &terminal, redraws: true}, progress{out: &log}
	for _, p := range []*progress{&watched, &logged} {
		p.stepProgress(loading)
		p.end()
	}
	assert.True(
		t, strings.HasPrefix(terminal.String(), clearLine+"[9/9] await-vllm-healthy: loading, 40 s of 600 s"),
		terminal.String(),
	)
	assert.NotContains(t, terminal.String(), "\x1b[2J", "nobody else moves the cursor")
	assert.Empty(t, log.String())
}
