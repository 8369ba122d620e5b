package monitor

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/dubnium/dubnium/observer"
)

// scripted is a source that says what a test put there, when the test says so.
type scripted struct {
	name    string
	part    atomic.Value // observer.Part
	looks   atomic.Int32
	changed atomic.Value // func()
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Watch(ctx context.Context, changed func()) error {
	s.changed.Store(changed)
	<-ctx.Done()
	return nil
}

func (s *scripted) Read(context.Context) observer.Part {
	s.looks.Add(1)
	part, _ := s.part.Load().(observer.Part)
	return part
}

func TestEverythingIsLookedAtAgainWhenTheMachineHasWokenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logind, systemd := &scripted{name: "logind"}, &scripted{name: "systemd"}
		awake := observer.Logind{Reading: observer.Reading{At: time.Now()}}
		logind.part.Store(observer.Part(awake))
		systemd.part.Store(observer.Part(observer.Systemd{Reading: observer.Reading{At: time.Now()}}))
		m := New(time.Minute, zaptest.NewLogger(t), logind, systemd)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { m.Run(ctx); close(ran) }()
		synctest.Wait()
		before := systemd.looks.Load()

		poke := logind.changed.Load().(func())
		poke()
		synctest.Wait()
		require.Equal(t, before, systemd.looks.Load(), "a session that changes is no business of others")
		awake.WokenAt = time.Now()
		logind.part.Store(observer.Part(awake))
		poke()
		synctest.Wait()
		require.Equal(t, before+1, systemd.looks.Load())
		cancel()
		<-ran
	})
}
