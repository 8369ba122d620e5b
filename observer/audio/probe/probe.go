// Package probe tells dubniumd, line by line, what one user's audio server has.
//
// A line is a Document in full. There is one at first, one at each change, and
// one for each byte that the daemon sends, so that it can ask for a look that
// begins after its question. That no server is there is a line too, and the probe
// goes on until there is one. A server that breaks off, is silent or talks
// nonsense is the last line: the process that read it is not to be used again, and
// the daemon starts a fresh one.
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

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/audio"
)

const (
	// settle gathers a burst of changes into one question. A server that does not
	// stop announcing is asked ever less, down to once in slowest.
	settle  = 50 * time.Millisecond
	slowest = 2 * time.Second
	// again is when to ask once more after a change: a new stream shows as corked
	// at first, and pipewire-pulse does not always say when that has changed.
	again = 300 * time.Millisecond
	// refresh bounds how long a server may have hung unnoticed.
	refresh = 30 * time.Second
	// retry is how often a server that is not there is looked for.
	retry = time.Second
	// writing is how long the daemon may leave a line unread.
	writing = 10 * time.Second
	// lookBound is how long a look may take before Stuck is called; the requests in
	// it end before that.
	lookBound = 2 * patience
)

// Server says where a user's server is.
type Server struct {
	Socket string // /run/user/UID/pulse/native
	Cookie string // ~/.config/pulse/cookie; it need not exist
}

// Watchdog hears how the stream is.
type Watchdog struct {
	Alive func() // at least once in a minute for as long as nothing is stuck
	Stuck func() // a look does not end; the process has to
}

// Stream talks to the daemon over asks and lines until the daemon hangs up, which
// either of them may tell first, or until it has told the daemon how the server
// failed; both are no error. The error is that the daemon cannot be told, though it
// is there. After it has returned the process has to end.
func Stream(ctx context.Context, server Server, asks io.Reader, lines io.Writer, watchdog Watchdog) error {
	s := &stream{server: server, lines: lines, watchdog: watchdog}
	defer s.hangUp()
	stop := make(chan struct{})
	defer close(stop)
	err := s.run(ctx, readAsks(asks, stop))
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil // whoever it listens for has left, with whoever served them
	}
	return err
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
	server   Server
	lines    io.Writer
	watchdog Watchdog

	pulse   *pulse        // nil while there is no server
	pending bool          // a look is due because of a change
	pace    time.Duration // of such looks, 0 when there has been none for a while
	answers uint64
	last    []byte // the last line, without its count
	told    uint64
}

func (s *stream) run(ctx context.Context, asks <-chan int) error {
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		s.watchdog.Alive()
		changed, gone := s.signals()
		select {
		case <-ctx.Done():
			return nil
		case n, open := <-asks:
			if !open {
				return nil
			}
			s.answers += uint64(n)
		case <-changed:
			due.Reset(s.announced())
			continue
		case <-gone:
			return s.tell(failed(errHungUp))
		case <-due.C:
			due.Reset(s.next())
		}
		if ended, err := s.look(); ended || err != nil {
			return err
		}
	}
}

// signals is what the server says unasked. While a look at its changes is due
// already, more of them say nothing.
func (s *stream) signals() (changed, gone <-chan struct{}) {
	if s.pulse == nil {
		return nil, nil
	}
	if !s.pending {
		changed = s.pulse.changed
	}
	return changed, s.pulse.gone
}

// announced takes note of a change and says when to look at it.
func (s *stream) announced() time.Duration {
	s.pending, s.pace = true, min(max(settle, 2*s.pace), slowest)
	return s.pace
}

// next says when to look again if nothing happens. A look that the daemon asks for
// changes nothing about that: it would come too early for what follows a change.
func (s *stream) next() time.Duration {
	if s.pulse == nil {
		return retry
	}
	if s.pending {
		s.pending = false
		s.pulse.forget()
		return again
	}
	s.pace = 0
	return refresh
}

func (s *stream) hangUp() {
	if s.pulse != nil {
		s.pulse.close()
	}
}

// look asks the server and tells the daemon what is new. The stream has ended when
// the server failed; the error is that the daemon cannot be told.
func (s *stream) look() (ended bool, err error) {
	stuck := time.AfterFunc(lookBound, s.watchdog.Stuck)
	state, err := s.ask()
	stuck.Stop()
	switch {
	case err == nil:
		return false, s.tell(audio.Document{
			Running: true, Name: clean(state.name), Streams: state.streams, JACK: state.jack, Devices: state.devices,
		})
	case s.pulse == nil && down(err):
		return false, s.tell(audio.Document{
			Streams: []observer.AudioStream{}, JACK: []observer.JACKClient{}, Devices: []observer.AudioDevice{},
		})
	}
	return true, s.tell(failed(err))
}

// failed says that a server is there and cannot be read.
func failed(err error) audio.Document {
	return audio.Document{Error: "the audio server cannot be read: " + err.Error()}
}

func (s *stream) ask() (state, error) {
	if s.pulse == nil {
		p, err := dial(s.server.Socket, readCookie(s.server.Cookie))
		if err != nil {
			return state{}, err
		}
		s.pulse = p
	}
	return s.pulse.state()
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

func clean(s string) string { return probeclient.Clean(s, audio.MaxText) }

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
