package daemon

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
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
		eyes := NewMonitor(time.Minute, zap.New(zaptest.NewLogger(t).Core()), logind, systemd)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() { eyes.Run(ctx); close(ran) }()
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

// A person who has just logged in has a whole desktop until their audio server is
// due. That it is due nobody signals: the engine waits for the moment itself.
func TestTheGraceOfAFreshLoginEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		host := newFakeHost(testPolicy(dir))
		host.mute = true
		host.now.Logind.Sessions[0].Since = time.Now()
		r := startRig(t, host, dir, thisBoot)
		defer r.stop()
		require.Equal(t, observer.State("desktop"), r.settle().Observation.State)
		host.mu.Lock()
		host.note = func(what string) { assert.Fail(t, "nobody needs to look", what) }
		host.mu.Unlock()
		time.Sleep(9 * time.Second)
		synctest.Wait()
		assert.Equal(t, observer.State("desktop"), r.View().Observation.State)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		assert.Equal(t, observer.State("degraded-desktop"), r.View().Observation.State)
		assert.Equal(t, "degraded-desktop", word(t, r, "current"))
	})
}
