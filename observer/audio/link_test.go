package audio

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

// A poke leads to a look, and each look to a line: were that a poke again, it
// would never end.
func TestAnAnswerWithNothingNewPokesNobody(t *testing.T) {
	l := newLink(t.Context(), 1000, "nowhere", nil)
	music := Document{Running: true, Streams: []observer.AudioStream{{Direction: observer.Playback}}}
	require.True(t, l.hear(music))
	music.Answers++
	require.False(t, l.hear(music))
	music.Streams = []observer.AudioStream{{Direction: observer.Playback, Corked: true}}
	require.True(t, l.hear(music))
}
