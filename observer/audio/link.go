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
	// lasting is how long a connection has to have held for the next try to be the
	// first again: a server that breaks its probe each time is tried ever less.
	lasting = lastRetry
	// pace is between lines that nobody asked for: the process at the other end is
	// the user's, who may have it say as much as it likes.
	pace = 100 * time.Millisecond
	// stopping bounds the stop of a probe whose user has left.
	stopping = 10 * time.Second
)

// link is the daemon's end of one user's probe.
type link struct {
	ctx    context.Context // ends with the watch, or when the user leaves
	cancel context.CancelFunc
	gone   chan struct{} // closed when the user has left
	uid    uint32
	socket string
	units  Units

	mu    sync.Mutex
	conn  net.Conn // nil while there is none
	asked uint64   // on this connection
	heard Document
	now   observer.AudioServer
	news  chan struct{} // closed and replaced at every line and every loss
	spoke bool          // there has been a line or a loss
}

func newLink(ctx context.Context, uid uint32, socket string, units Units) *link {
	l := &link{uid: uid, socket: socket, units: units, gone: make(chan struct{}), news: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.now = l.unknown("has not answered yet")
	return l
}

func (l *link) leave() {
	close(l.gone)
	l.cancel()
}

func (l *link) unknown(why string) observer.AudioServer {
	reason := fmt.Sprintf("the audio probe of uid %d %s", l.uid, why)
	return observer.AudioServer{Reading: observer.Reading{At: time.Now(), Reason: reason}, UID: l.uid}
}

// run keeps the link up until the watch ends or the user leaves.
func (l *link) run(changed func()) {
	wait := firstRetry
	for l.ctx.Err() == nil {
		began := time.Now()
		err := l.follow(changed)
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

// stop ends the probe of a user who has left. That it cannot be stopped harms
// nobody: without a connection it ends by itself.
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

// follow starts the probe, connects and reads lines until there are no more.
func (l *link) follow(changed func()) error {
	if err := l.units.Start(l.ctx, SocketUnit(l.uid)); err != nil {
		return fmt.Errorf("cannot be started: %w", err)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(l.ctx, "unix", l.socket)
	if err != nil {
		return fmt.Errorf("cannot be asked: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(l.ctx, func() { conn.Close() })()
	l.mu.Lock()
	l.conn, l.asked, l.heard = conn, 0, Document{}
	l.mu.Unlock()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, MaxLine)
	var free time.Time // from when a line may come unasked
	for lines.Scan() {
		d, err := Decode(lines.Bytes())
		if err != nil {
			return fmt.Errorf("cannot be believed: %w", err)
		}
		if !l.wanted(d) {
			l.pause(time.Until(free))
			free = time.Now().Add(pace)
		}
		if l.hear(d) {
			changed()
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("said more than %d bytes in a line", MaxLine)
	case err != nil:
		return fmt.Errorf("cannot be read: %w", err)
	}
	return errors.New("has ended")
}

// wanted reports whether a line is one that a look waits for.
func (l *link) wanted(d Document) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return d.Answers > l.heard.Answers && d.Answers <= l.asked
}

// hear takes a line over and reports whether it says something new. An answer to
// a look that found nothing new is not: it would lead to the next look.
func (l *link) hear(d Document) (changed bool) {
	server := observer.AudioServer{
		Reading: observer.Reading{At: time.Now(), Reason: d.Error},
		UID:     l.uid, Running: d.Running, Name: d.Name, Streams: d.Streams, JACK: d.JACK, Devices: d.Devices,
	}
	if d.Error != "" {
		server.Reason = fmt.Sprintf("%s (uid %d)", d.Error, l.uid)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = d
	changed = l.set(server)
	return changed
}

// lost notes why there is nothing to hear, and reports whether that is new. A probe
// whose last word was why says it better.
func (l *link) lost(why error) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gave := l.conn != nil && l.heard.Error != ""
	l.conn = nil
	if gave {
		return l.set(l.now) // who waits for an answer has to hear that there is none
	}
	return l.set(l.unknown(why.Error()))
}

// set is called under the lock.
func (l *link) set(server observer.AudioServer) (changed bool) {
	before := l.now
	before.At = server.At
	l.now, l.spoke = server, true
	close(l.news)
	l.news = make(chan struct{})
	return !reflect.DeepEqual(before, server)
}

// begun waits for the first line or the first loss.
func (l *link) begun(ctx context.Context) bool {
	for {
		l.mu.Lock()
		spoke, news := l.spoke, l.news
		l.mu.Unlock()
		if spoke {
			return true
		}
		select {
		case <-news:
		case <-ctx.Done():
			return false
		}
	}
}

// unasked is what is known when the probe could not be asked: what it said before
// it went, or that.
func (l *link) unasked(err error) observer.AudioServer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heard.Error != "" || l.conn == nil {
		return l.now
	}
	return l.unknown("cannot be asked: " + err.Error())
}

// glance is what the probe said last.
func (l *link) glance(ctx context.Context) observer.AudioServer {
	if !l.begun(ctx) {
		return l.unknown("has not answered yet")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// look asks the probe to look now. Without a probe there is no more to know than
// why.
func (l *link) look(ctx context.Context) observer.AudioServer {
	if !l.begun(ctx) {
		return l.unknown("has not answered yet")
	}
	l.mu.Lock()
	conn := l.conn
	if conn == nil {
		defer l.mu.Unlock()
		l.now.At = time.Now()
		return l.now
	}
	l.asked++
	question := l.asked
	l.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetWriteDeadline(deadline) // fails like the write does
	}
	if _, err := conn.Write([]byte{'\n'}); err != nil {
		return l.unasked(err)
	}
	for {
		l.mu.Lock()
		now, news, over := l.now, l.news, l.conn != conn || l.heard.Answers >= question
		l.mu.Unlock()
		if over {
			return now
		}
		select {
		case <-news:
		case <-ctx.Done():
			return l.unknown("did not answer in time")
		}
	}
}
