package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// monitor speaks QMP, QEMU's control protocol. It ends with its connection, and the connection ends with QEMU.
type monitor struct {
	conn net.Conn
	out  *json.Encoder

	mu      sync.Mutex
	next    int
	waiting map[int]chan<- reply
	events  []event
	changed chan struct{} // closed and replaced at each event and at the end
	err     error         // why the monitor ended
}

// message is whatever QEMU sends: the greeting, a reply or an event.
type message struct {
	ID     int             `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

type reply struct {
	result json.RawMessage
	err    error
}

type event struct {
	name string
	data json.RawMessage
}

func newMonitor(ctx context.Context, conn net.Conn) (*monitor, error) {
	m := &monitor{
		conn: conn, out: json.NewEncoder(conn), waiting: map[int]chan<- reply{}, changed: make(chan struct{}),
	}
	go m.read()
	if err := m.do(ctx, "qmp_capabilities", nil, nil); err != nil { // QEMU queues it behind its greeting
		return nil, err
	}
	return m, nil
}

func (m *monitor) read() {
	in := json.NewDecoder(m.conn)
	for {
		var msg message
		if err := in.Decode(&msg); err != nil {
			m.end(err)
			m.conn.Close()
			return
		}
		m.take(msg)
	}
}

func (m *monitor) take(msg message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if msg.Event != "" {
		m.events = append(m.events, event{msg.Event, msg.Data})
		m.broadcast()
		return
	}
	c, ok := m.waiting[msg.ID]
	if !ok { // the greeting
		return
	}
	delete(m.waiting, msg.ID)
	r := reply{result: msg.Return}
	if msg.Error != nil {
		r.err = errors.New(msg.Error.Desc)
	}
	c <- r
}

func (m *monitor) end(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if errors.Is(err, io.EOF) {
		err = errors.New("QEMU has ended")
	}
	m.err = err
	for id, c := range m.waiting {
		c <- reply{err: err}
		delete(m.waiting, id)
	}
	m.broadcast()
}

func (m *monitor) broadcast() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// do runs a command and decodes its result into ret unless that is nil.
func (m *monitor) do(ctx context.Context, command string, arguments, ret any) error {
	result, err := m.roundTrip(ctx, command, arguments)
	if err == nil && ret != nil {
		err = json.Unmarshal(result, ret)
	}
	if err != nil {
		return fmt.Errorf("cannot have QEMU %s: %w", command, err)
	}
	return nil
}

func (m *monitor) roundTrip(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	c := make(chan reply, 1)
	m.mu.Lock()
	if m.err != nil {
		m.mu.Unlock()
		return nil, m.err
	}
	m.next++
	m.waiting[m.next] = c
	err := m.out.Encode(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, m.next})
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case r := <-c:
		return r.result, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// mark is the present, for await.
func (m *monitor) mark() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.events)
}

// await returns once an event of that name, since the mark, satisfies ok.
func (m *monitor) await(ctx context.Context, since int, name string, ok func(data json.RawMessage) bool) error {
	for seen := since; ; {
		m.mu.Lock()
		events, changed, err := m.events[seen:], m.changed, m.err
		seen = len(m.events)
		m.mu.Unlock()
		for _, e := range events {
			if e.name == name && ok(e.data) {
				return nil
			}
		}
		if err != nil {
			return fmt.Errorf("cannot wait for QEMU's event %s: %w", name, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("cannot wait any longer for QEMU's event %s: %w", name, ctx.Err())
		}
	}
}
