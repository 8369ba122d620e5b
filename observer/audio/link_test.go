package audio

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

// A poke leads to a look, and each look to a line: were that a poke again, it
// would never end.
func TestAnswerWithoutChange(t *testing.T) {
	l := newLink(t.Context(), 1000, "nowhere", nil)
	music := Document{Running: true, Streams: []observer.AudioStream{{Direction: observer.Playback}}}
	require.True(t, l.accept(music))
	music.Answers++
	require.False(t, l.accept(music))
	music.Streams = []observer.AudioStream{{Direction: observer.Playback, Corked: true}}
	require.True(t, l.accept(music))
}

// started are units that are.
type started struct{}

func (started) Start(context.Context, string) error { return nil }
func (started) Stop(context.Context, string) error  { return nil }

// A probe is its user's process, who may have it say anything at any rate.
func TestLineFlood(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "audio")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		for n := 0; err == nil; n++ {
			_, err = fmt.Fprintf(conn, `{"running":true,"name":"%d","streams":[],"jack":[],"devices":[]}`+"\n", n)
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		newLink(ctx, 1000, socket, started{}).run(func() {
			select {
			case heard <- struct{}{}:
			case <-ctx.Done():
			}
		})
	}()
	began := time.Now()
	for range 5 {
		<-heard
	}
	require.GreaterOrEqual(t, time.Since(began), 4*pace)
	cancel()
	<-ended
}
