// Package probe streams the state of the audio server of one user to dubniumd.
//
// Each line is a complete Document. The probe writes one at the start, one at each change, and one
// for each byte that the daemon sends, which requests a read that begins after the request. Without a
// server it writes a line that says so, and waits for one. If a server ends the connection, does not
// answer, or sends invalid data, the probe writes the error as its last line: the process is not used
// again, and the daemon starts a new one.
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
	// settle is the delay from a change to the read, so that a burst of changes causes one
	// read. If changes do not stop, the delay doubles up to slowest.
	settle  = 50 * time.Millisecond
	slowest = 2 * time.Second
	// again is the delay of a second read after a change. A new stream is corked at first,
	// and pipewire-pulse does not always signal when that changes.
	again = 300 * time.Millisecond
	// refresh is the read interval without changes. It detects a server that hangs.
	refresh = 30 * time.Second
	// retry is the interval of connection attempts while there is no server.
	retry = time.Second
	// writing bounds the write of a line.
	writing = 10 * time.Second
	// readBound is how long a read may take before Stuck is called. The requests of a read
	// time out before that.
	readBound = 2 * patience
)

// Server has the paths of the server of a user.
type Server struct {
	Socket string // /run/user/UID/pulse/native
	Cookie string // ~/.config/pulse/cookie; it need not exist
}

// Watchdog is notified of the state of the stream.
type Watchdog struct {
	Alive func() // called at least once a minute while nothing is stuck
	Stuck func() // a read does not end; it must end the process
}

// Stream reads requests and writes lines until the daemon closes either of them, or until it has
// written that the server failed. In both cases it returns nil. It returns an error if a line cannot
// be written although the connection is open. The process must end after Stream has returned.
func Stream(ctx context.Context, server Server, requests io.Reader, lines io.Writer, watchdog Watchdog) error {
	s := &stream{server: server, lines: lines, watchdog: watchdog}
	defer s.close()
	stop := make(chan struct{})
	defer close(stop)
	err := s.run(ctx, readRequests(requests, stop))
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil // the daemon has closed the connection
	}
	return err
}

// readRequests sends the number of bytes of each read, and closes the channel at the end.
func readRequests(from io.Reader, stop <-chan struct{}) <-chan int {
	requests := make(chan int)
	go func() {
		defer close(requests)
		buffer := make([]byte, 64)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				select {
				case requests <- n:
				case <-stop:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return requests
}

type stream struct {
	server   Server
	lines    io.Writer
	watchdog Watchdog

	pulse    *pulse        // nil while there is no server
	pending  bool          // a read is due because of a change
	pace     time.Duration // the delay of that read, 0 when there has been no change for a while
	requests uint64        // received so far
	last     []byte        // the last line, without Answers
	answered uint64        // Answers of the last line
}

func (s *stream) run(ctx context.Context, requests <-chan int) error {
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		s.watchdog.Alive()
		changed, gone := s.signals()
		select {
		case <-ctx.Done():
			return nil
		case n, open := <-requests:
			if !open {
				return nil
			}
			s.requests += uint64(n)
		case <-changed:
			due.Reset(s.delay())
			continue
		case <-gone:
			return s.write(failed(errHungUp))
		case <-due.C:
			due.Reset(s.next())
		}
		if ended, err := s.read(); ended || err != nil {
			return err
		}
	}
}

// signals returns the signals of the server. changed is nil while a read because of a change is
// already due.
func (s *stream) signals() (changed, gone <-chan struct{}) {
	if s.pulse == nil {
		return nil, nil
	}
	if !s.pending {
		changed = s.pulse.changed
	}
	return changed, s.pulse.gone
}

// delay records a change and returns the delay until the read.
func (s *stream) delay() time.Duration {
	s.pending, s.pace = true, min(max(settle, 2*s.pace), slowest)
	return s.pace
}

// next returns the delay until the next read without a signal. A read that the daemon requests does
// not change it, since it could be too early for the second read after a change.
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

func (s *stream) close() {
	if s.pulse != nil {
		s.pulse.close()
	}
}

// read reads the server and writes a line if one is due. ended: the server failed. The error is that
// of the write.
func (s *stream) read() (ended bool, err error) {
	stuck := time.AfterFunc(readBound, s.watchdog.Stuck)
	state, err := s.state()
	stuck.Stop()
	switch {
	case err == nil:
		return false, s.write(audio.Document{
			Running: true, Name: clean(state.name), Streams: state.streams, JACK: state.jack, Devices: state.devices,
		})
	case s.pulse == nil && down(err):
		return false, s.write(audio.Document{
			Streams: []observer.AudioStream{}, JACK: []observer.JACKClient{}, Devices: []observer.AudioDevice{},
		})
	}
	return true, s.write(failed(err))
}

// failed returns the document of a server that cannot be read.
func failed(err error) audio.Document {
	return audio.Document{Error: "the audio server cannot be read: " + err.Error()}
}

// state connects to the server if necessary, and reads it.
func (s *stream) state() (state, error) {
	if s.pulse == nil {
		p, err := dial(s.server.Socket, readCookie(s.server.Cookie))
		if err != nil {
			return state{}, err
		}
		s.pulse = p
	}
	return s.pulse.state()
}

// write writes a line if it differs from the last one or answers a request.
func (s *stream) write(d audio.Document) error {
	cleanDocument(&d)
	content, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("cannot write a line: %w", err)
	}
	if bytes.Equal(content, s.last) && s.answered == s.requests {
		return nil
	}
	s.last, s.answered = content, s.requests
	d.Answers = s.requests
	if conn, ok := s.lines.(interface{ SetWriteDeadline(time.Time) error }); ok {
		if err := conn.SetWriteDeadline(time.Now().Add(writing)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
			return fmt.Errorf("cannot write to the daemon: %w", err)
		}
	}
	w := bufio.NewWriter(s.lines)
	if err := errors.Join(json.NewEncoder(w).Encode(d), w.Flush()); err != nil {
		return fmt.Errorf("cannot write to the daemon: %w", err)
	}
	return nil
}

// cleanDocument keeps the strings of clients within the limits of the daemon.
func cleanDocument(d *audio.Document) {
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

// readCookie reads the authentication cookie of PulseAudio, nil if there is none. The file belongs to
// the user, so it could be a pipe that never has data.
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
	n, _ := io.ReadFull(file, cookie) // the server rejects a short one
	return cookie[:n]
}
