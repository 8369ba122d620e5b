// Package probe tells dubniumd, line by line, what one user's audio server has.
//
// A line is a Document in full. There is one at first, one at each change, and
// one for each byte that the daemon sends, so that it can ask for a look that
// begins after its question. A server that is not there, that breaks off or that
// talks nonsense is a line too; the probe tries again.
package probe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/dubnium/dubnium/internal/oneshot"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/observer/audio/pulse"
)

const (
	// settle gathers a burst of changes into one question.
	settle = 50 * time.Millisecond
	// again is when to ask once more after a change: a new stream shows as corked
	// at first, and pipewire-pulse does not always say when that has changed.
	again = 300 * time.Millisecond
	// refresh bounds how long a server may have hung unnoticed.
	refresh = 30 * time.Second
	// retry is how long after a failure the server is tried again.
	retry = time.Second
	// writing is how long the daemon may leave a line unread.
	writing = 10 * time.Second
)

// Server says where a user's server is.
type Server struct {
	Socket string // /run/user/UID/pulse/native
	Cookie string // ~/.config/pulse/cookie; it need not exist
}

// Stream talks to the daemon over asks and lines until asks ends, which is no
// error, or the daemon can no longer be told. alive is called at least once in
// a minute for as long as nothing is stuck.
func Stream(ctx context.Context, server Server, asks io.Reader, lines io.Writer, alive func()) error {
	s := &stream{server: server, lines: lines, alive: alive}
	defer s.hangUp()
	stop := make(chan struct{})
	defer close(stop)
	return s.run(ctx, readAsks(asks, stop))
}

// readAsks gives the number of bytes at each read, and is closed at the end.
func readAsks(from io.Reader, stop <-chan struct{}) <-chan int {
	asks := make(chan int)
	go func() {
		defer close(asks)
		buffer := make([]byte, 64)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				select {
				case asks <- n:
				case <-stop:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return asks
}

type stream struct {
	server Server
	lines  io.Writer
	alive  func()

	conn    *pulse.Conn // nil while there is none
	answers uint64
	last    []byte // the last line, without its count
	told    uint64
}

func (s *stream) run(ctx context.Context, asks <-chan int) error {
	due := time.NewTimer(0)
	defer due.Stop()
	event := false // what is due was brought about by a change
	for {
		s.alive()
		select {
		case <-ctx.Done():
			return nil
		case n, open := <-asks:
			if !open {
				return nil
			}
			s.answers += uint64(n)
		case m := <-s.messages():
			if err := s.conn.Heard(m); err == nil {
				if s.conn.Changed() && !event {
					event = true
					due.Reset(settle)
				}
				continue
			}
			s.hangUp() // whether it is gone for good is asked at once
		case <-due.C:
		}
		next, err := s.look()
		if err != nil {
			return err
		}
		switch wasEvent := event; {
		case s.conn == nil:
			event = false
		case s.conn.Changed(): // while it was asked
			event, next = true, settle
		default:
			if event = false; wasEvent {
				next = again
			}
		}
		due.Reset(next)
	}
}

// messages is what the server says unasked; nothing without one.
func (s *stream) messages() <-chan pulse.Message {
	if s.conn == nil {
		return nil
	}
	return s.conn.Messages()
}

func (s *stream) hangUp() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// look asks the server and tells the daemon what is new. It returns when to look
// next if nothing happens; its error is that the daemon cannot be told.
func (s *stream) look() (next time.Duration, err error) {
	d := audio.Document{Streams: []observer.AudioStream{}, JACK: []observer.JACKClient{}, Devices: []observer.AudioDevice{}}
	state, err := s.ask()
	next = refresh
	switch {
	case err == nil:
		d.Running, d.Name = true, clean(state.Name)
		d.Streams, d.JACK, d.Devices = state.Streams, state.JACK, state.Devices
	case pulse.Down(err):
		next = retry
	default:
		next = retry
		d.Error = "the audio server cannot be read: " + err.Error()
	}
	return next, s.tell(d)
}

func (s *stream) ask() (pulse.State, error) {
	if s.conn == nil {
		conn, err := pulse.Dial(s.server.Socket, readCookie(s.server.Cookie))
		if err != nil {
			return pulse.State{}, err
		}
		s.conn = conn
	}
	state, err := s.conn.State()
	if err != nil {
		s.hangUp()
	}
	return state, err
}

// tell writes the line if it says something new or was asked for.
func (s *stream) tell(d audio.Document) error {
	bound(&d)
	content, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("cannot write a line: %w", err)
	}
	if bytes.Equal(content, s.last) && s.told == s.answers {
		return nil
	}
	s.last, s.told = content, s.answers
	d.Answers = s.answers
	if conn, ok := s.lines.(interface{ SetWriteDeadline(time.Time) error }); ok {
		if err := conn.SetWriteDeadline(time.Now().Add(writing)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
			return fmt.Errorf("cannot tell the daemon: %w", err)
		}
	}
	w := bufio.NewWriter(s.lines)
	if err := errors.Join(json.NewEncoder(w).Encode(d), w.Flush()); err != nil {
		return fmt.Errorf("cannot tell the daemon: %w", err)
	}
	return nil
}

// bound keeps a line within what the daemon takes, whatever clients call
// themselves.
func bound(d *audio.Document) {
	for i := range d.Streams {
		d.Streams[i].Application, d.Streams[i].Media = clean(d.Streams[i].Application), clean(d.Streams[i].Media)
	}
	for i := range d.JACK {
		d.JACK[i].Application = clean(d.JACK[i].Application)
	}
	for i := range d.Devices {
		d.Devices[i].Name = clean(d.Devices[i].Name)
	}
}

func clean(s string) string { return oneshot.Clean(s, audio.MaxText) }

// readCookie reads what PulseAudio proper wants to see. The file is the user's:
// it could be a pipe that nobody writes to.
func readCookie(path string) []byte {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	cookie := make([]byte, 256)
	n, _ := io.ReadFull(file, cookie) // a short one is refused by the server
	return cookie[:n]
}
