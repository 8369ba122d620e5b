package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDAWsAreKnownByTheirNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"reaper": true, "reaper5": true, ".reaper-wrapped": true, "REAPER": true,
		"grim-reaper": false, "reapers": false, "": false,
	} {
		assert.Equal(t, ok, Default().Audio.IsDAW(name), name)
	}
	a := Audio{DAWs: []Pattern{"Bitwig Studio", "ardour-*"}}
	for name, ok := range map[string]bool{"Bitwig Studio": true, "Bitwig": false, "ardour-8.6": true, "reaper": false} {
		assert.Equal(t, ok, a.IsDAW(name), name)
	}
	assert.False(t, Audio{}.IsDAW("reaper"), "an empty list has none")
}
