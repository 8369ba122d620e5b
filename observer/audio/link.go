package audio

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"sync"
	"time"

	"github.com/dubnium/dubnium/observer"
)

// The waits between tries, doubled from the first to the last.
const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 15 * time.Second
	// lasting is how long a connection must have lasted for the next retry to start at
	// firstRetry again. So a server that always breaks its probe is retried rarely.
	lasting = lastRetry
	// pace is the minimum interval between lines that were not requested. The probe is a
	// process of the user, who could flood the daemon.
	pace = 100 * time.Millisecond
	// stopping bounds the stop of the probe of a user who has left.
	stopping = 10 * time.Second
)

// link is the connection of the daemon to the probe of one user.
type link struct {
	ctx    context.Context // ends with the watch, or when the user leaves
	cancel context.CancelFunc
	gone   chan struct{} // closed when the user has left
	uid    uint32
	socket string
	units  Units

	mu        sync.Mutex
	conn      net.Conn // nil while there is none
	requested uint64   // reads requested on this connection
	received  Document // the last line of this connection
	now       observer.AudioServer
	updated   chan struct{} // closed and replaced at every line and every loss
	started   bool          // there has been a line or a loss
}

func newLink(ctx context.Context, uid uint32, socket string, units Units) *link {
	l := &link{uid: uid, socket: socket, units: units, gone: make(chan struct{}), updated: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.now = l.unknown("has not answered yet")
	return l
}

// close ends the link of a user who has left.
func (l *link) close() {
	close(l.gone)
	l.cancel()
}

func (l *link) unknown(why string) observer.AudioServer {
	reason := fmt.Sprintf("the audio probe of uid %d %s", l.uid, why)
	return observer.AudioServer{Reading: observer.Reading{At: time.Now(), Reason: reason}, UID: l.uid}
}

// run keeps the connection until the watch ends or the user leaves.
func (l *link) run(changed func()) {
	wait := firstRetry
	for l.ctx.Err() == nil {
		began := time.Now()
		err := l.receive(changed)
		if l.ctx.Err() != nil {
			break
		}
		if l.lost(err) {
			changed()
		}
		if time.Since(began) >= lasting {
			wait = firstRetry
		}
		l.pause(wait)
		wait = min(2*wait, lastRetry)
	}
	l.lost(errors.New("is not watched any more"))
	select {
	case <-l.gone:
		l.stop()
	default:
	}
}

// stop stops the probe of a user who has left. Errors are ignored, because without a connection the
// probe ends by itself.
func (l *link) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopping)
	defer cancel()
	_ = l.units.Stop(ctx, SocketUnit(l.uid))
	_ = l.units.Stop(ctx, ServiceUnit(l.uid))
}

func (l *link) pause(wait time.Duration) {
	select {
	case <-l.ctx.Done():
	case <-time.After(wait):
	}
}

// receive starts the probe, connects, and reads lines until the connection ends. The error is a
// sentence without a subject.
func (l *link) receive(changed func()) error {
	if err := l.units.Start(l.ctx, SocketUnit(l.uid)); err != nil {
		return fmt.Errorf("cannot be started: %w", err)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(l.ctx, "unix", l.socket)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(l.ctx, func() { conn.Close() })()
	l.mu.Lock()
	l.conn, l.requested, l.received = conn, 0, Document{}
	l.mu.Unlock()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, MaxLine)
	var free time.Time // when the next line that was not requested is accepted
	for lines.Scan() {
		d, err := Decode(lines.Bytes())
		if err != nil {
			return fmt.Errorf("sent an invalid line: %w", err)
		}
		if !l.isAnswer(d) {
			l.pause(time.Until(free))
			free = time.Now().Add(pace)
		}
		if l.accept(d) {
			changed()
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("sent more than %d bytes in a line", MaxLine)
	case err != nil:
		return fmt.Errorf("cannot be read: %w", err)
	}
	return errors.New("has ended")
}

// isAnswer reports whether a line answers a request.
func (l *link) isAnswer(d Document) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return d.Answers > l.received.Answers && d.Answers <= l.requested
}

// accept stores a line and reports whether the state of the server changed. The answer to a request
// is no change by itself: it would cause the next read.
func (l *link) accept(d Document) (changed bool) {
	server := observer.AudioServer{
		Reading: observer.Reading{At: time.Now(), Reason: d.Error},
		UID:     l.uid, Running: d.Running, Name: d.Name, Streams: d.Streams, JACK: d.JACK, Devices: d.Devices,
	}
	if d.Error != "" {
		server.Reason = fmt.Sprintf("%s (uid %d)", d.Error, l.uid)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.received = d
	return l.set(server)
}

// lost records why the probe is unavailable, and reports whether that changed. If the probe reported
// an error before the connection ended, that error is kept.
func (l *link) lost(why error) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reported := l.conn != nil && l.received.Error != ""
	l.conn = nil
	if reported {
		return l.set(l.now) // wakes reads that wait for an answer
	}
	return l.set(l.unknown(why.Error()))
}

// set requires the lock.
func (l *link) set(server observer.AudioServer) (changed bool) {
	before := l.now
	before.At = server.At
	l.now, l.started = server, true
	close(l.updated)
	l.updated = make(chan struct{})
	return !reflect.DeepEqual(before, server)
}

// awaitStart waits for the first line or the first loss. It returns false if ctx ends before.
func (l *link) awaitStart(ctx context.Context) bool {
	for {
		l.mu.Lock()
		started, updated := l.started, l.updated
		l.mu.Unlock()
		if started {
			return true
		}
		select {
		case <-updated:
		case <-ctx.Done():
			return false
		}
	}
}

// failed returns the state after a request could not be sent: the error that the probe reported
// before it ended, otherwise err.
func (l *link) failed(err error) observer.AudioServer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.received.Error != "" || l.conn == nil {
		return l.now
	}
	return l.unknown("cannot be read: " + err.Error())
}

// last returns the state of the last line.
func (l *link) last(ctx context.Context) observer.AudioServer {
	if !l.awaitStart(ctx) {
		return l.unknown("has not answered yet")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// read requests a new read from the probe. Without a connection it returns why there is none.
func (l *link) read(ctx context.Context) observer.AudioServer {
	if !l.awaitStart(ctx) {
		return l.unknown("has not answered yet")
	}
	l.mu.Lock()
	conn := l.conn
	if conn == nil {
		defer l.mu.Unlock()
		l.now.At = time.Now()
		return l.now
	}
	l.requested++
	request := l.requested
	l.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetWriteDeadline(deadline) // if it fails, the write does too
	}
	if _, err := conn.Write([]byte{'\n'}); err != nil {
		return l.failed(err)
	}
	for {
		l.mu.Lock()
		now, updated, done := l.now, l.updated, l.conn != conn || l.received.Answers >= request
		l.mu.Unlock()
		if done {
			return now
		}
		select {
		case <-updated:
		case <-ctx.Done():
			return l.unknown("did not answer in time")
		}
	}
}
