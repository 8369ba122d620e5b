//go:build integration

package integration

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/rawbus"
)

// attack is what some of the hostile user's connections do, again and again.
type attack struct {
	name  string
	conns int
	// every is the time between two turns of one connection.
	every time.Duration
	// turn is the n-th of a connection.
	turn func(h *hostile, c *rawbus.Conn, n int) error
	// unread: what comes to the connections is not read for them.
	unread bool
}

// attacks are the load: 200 connections of one user, and no more than 1500 cheap
// calls, 1280 costly ones, 100 refused ones, 100 requests for what is, 200 pairs of
// Inhibit and Release, 60 signals with descriptors, 20 callers that leave and one
// message of 30 MiB a second. That is a fraction of what a bus passes on, so that what
// slows root down is the daemon and not the machine; but for what is large, which
// stops the bus itself for up to a second and is therefore rare.
var attacks = []attack{
	{name: "cheap", conns: 109, every: 73 * time.Millisecond, turn: cheap},
	{name: "costly", conns: 20, every: time.Second, turn: costly},
	{name: "refused", conns: 20, every: 200 * time.Millisecond, turn: refused},
	{name: "no-op", conns: 20, every: 200 * time.Millisecond, turn: noop},
	{name: "inhibit", conns: 10, every: 50 * time.Millisecond, turn: inhibitAndRelease, unread: true},
	{name: "huge", conns: 1, every: time.Second, turn: huge},
	{name: "descriptors", conns: 5, every: 250 * time.Millisecond, turn: descriptors},
	{name: "deaf", conns: 10, every: 100 * time.Millisecond, turn: deaf, unread: true},
	{name: "leaving", conns: 5, every: 250 * time.Millisecond, turn: leaving},
}

// hostile is an unprivileged user who attacks the daemon.
type hostile struct {
	address string
	targets []string          // the daemon's connections, the one that serves clients first
	null    int               // a descriptor of /dev/null
	bodies  map[string][]byte // the huge ones, by their signatures

	mu   sync.Mutex
	sent map[string]int            // by the attack's name
	came map[string]map[string]int // by the attack's name, then what came
}

// only is the variable with the names of the attacks to make, in place of all.
const onlyVariable = "DUBNIUM_HOSTILE_ONLY"

// run attacks until ctx ends.
func (h *hostile) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, a := range attacks {
		if only, set := os.LookupEnv(onlyVariable); set && !slices.Contains(strings.Split(only, ","), a.name) {
			continue
		}
		for range a.conns {
			all.Go(func() { h.attack(ctx, a) })
		}
	}
	all.Wait()
}

// attack makes the turns of one connection, and another connection when it ends.
func (h *hostile) attack(ctx context.Context, a attack) {
	for ctx.Err() == nil {
		if err := h.turns(ctx, a); err != nil && ctx.Err() == nil {
			h.heard(a.name, "cannot go on: "+err.Error())
		}
		pause(ctx, 500*time.Millisecond)
	}
}

func (h *hostile) turns(ctx context.Context, a attack) error {
	conn, err := h.dial()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	if !a.unread {
		go h.drain(conn, a.name)
	}
	for n := 0; ctx.Err() == nil; n++ {
		if err := a.turn(h, conn, n); err != nil {
			return err
		}
		pause(ctx, a.every)
	}
	return nil
}

// pause waits, but not for longer than ctx lasts.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (h *hostile) dial() (*rawbus.Conn, error) { return rawbus.Dial(h.address, nobody) }

// drain counts what comes to a connection until it ends.
func (h *hostile) drain(conn *rawbus.Conn, attack string) {
	for {
		r, err := conn.Read()
		if err != nil {
			return
		}
		switch r.Type {
		case rawbus.Return:
			h.heard(attack, "return")
		case rawbus.Error:
			h.heard(attack, r.ErrorName)
		}
	}
}

func (h *hostile) heard(attack, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.came[attack] == nil {
		h.came[attack] = map[string]int{}
	}
	h.came[attack][what]++
}

// send counts what it sends for the attack.
func (h *hostile) send(attack string, c *rawbus.Conn, messages ...*rawbus.Message) error {
	h.mu.Lock()
	h.sent[attack] += len(messages)
	h.mu.Unlock()
	return c.Send(messages...)
}

// report prints what was sent and what came back.
func (h *hostile) report(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(h.sent)) {
		t.Logf("%s: %d sent; came: %v", name, h.sent[name], h.came[name])
	}
}

// method is a call of a method of ours, without options where none are given.
func method(member string, args ...rawbus.Value) *rawbus.Message {
	if len(args) == 0 || args[len(args)-1].Type != "a{sv}" {
		args = append(args, rawbus.Uint64(0), rawbus.Dict())
	}
	return rawbus.NewCall(busapi.BusName, string(busapi.Path), busapi.Interface, member).With(args...)
}

func property(member string, args ...rawbus.Value) *rawbus.Message {
	return rawbus.NewCall(busapi.BusName, string(busapi.Path), busapi.PropertiesInterface, member).With(args...)
}

func cheap(h *hostile, c *rawbus.Conn, n int) error {
	calls := []*rawbus.Message{
		property("Get", rawbus.String(busapi.Interface), rawbus.String("Signals")),
		property("GetAll", rawbus.String(busapi.Interface)),
		method("Explain", rawbus.String("compute")),
		method("GetPolicy"),
		method("NoSuchMethod"),
	}
	return h.send("cheap", c, calls[n%len(calls)])
}

// costly sends many at once, and waits for none.
func costly(h *hostile, c *rawbus.Conn, _ int) error {
	var burst []*rawbus.Message
	for range 8 {
		burst = append(burst,
			method("Observe"),
			method("RunGuards", rawbus.String("compute"), rawbus.Array("s")),
			method("Plan", rawbus.String("compute")),
			method("History", rawbus.Uint64(0), rawbus.Dict(rawbus.Option("limit", rawbus.Uint32(1000)))),
			method("GetTransition", rawbus.Uint64(1)), method("GetTransition", rawbus.Uint64(1)),
			method("GetTransition", rawbus.Uint64(1<<60)), method("GetTransition", rawbus.Uint64(1<<60)),
		)
	}
	return h.send("costly", c, burst...)
}

// word is long, and longer when it is quoted.
var word = strings.Repeat("\x01", 60<<10)

func refused(h *hostile, c *rawbus.Conn, n int) error {
	calls := []*rawbus.Message{
		method("RequestMode", rawbus.String(word), rawbus.Uint64(0), rawbus.Dict()),
		method(
			"RequestMode", rawbus.String("compute"), rawbus.Uint64(0), rawbus.Dict(rawbus.Option("reason", rawbus.String(word))),
		),
		method("RequestMode", rawbus.String(strings.Repeat(word, 17)), rawbus.Uint64(0), rawbus.Dict()), // 1 MiB
		method("Inhibit", rawbus.String(""), rawbus.String("x"), rawbus.String(word), rawbus.String(word)),
		method("RunGuards", rawbus.String("compute"), rawbus.Array("s", rawbus.String(word))),
		property("Get", rawbus.String(word), rawbus.String(word)),
	}
	return h.send("refused", c, calls[n%len(calls)])
}

// noop asks for the mode that is there, which polkit grants.
func noop(h *hostile, c *rawbus.Conn, _ int) error {
	return h.send("no-op", c, method("RequestMode", rawbus.String("studio-local"), rawbus.Uint64(0), rawbus.Dict()))
}

func inhibitAndRelease(h *hostile, c *rawbus.Conn, _ int) error {
	inhibit := method("Inhibit", rawbus.String(""), rawbus.String("x"), rawbus.String("y"), rawbus.String("delay"))
	r, err := c.Ask(inhibit)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.sent["inhibit"]++
	h.mu.Unlock()
	if r.Type == rawbus.Error {
		h.heard("inhibit", r.ErrorName)
		return nil
	}
	h.heard("inhibit", "return")
	_, err = c.Ask(method("ReleaseInhibitor", rawbus.Uint32(r.Order.Uint32(r.Body))))
	return err
}

// hugeSize is what a body is filled up to; the bus takes 32 MiB at most.
const hugeSize = 30 << 20

// hugeBody is one array or string. The elements are as small as their type allows.
func hugeBody(signature string) []byte {
	element := map[string]string{
		"ay": "x", "aay": "\x00\x00\x00\x00", "av": "\x01y\x00x", "as": "\x00\x00\x00\x00\x00\x00\x00\x00", "s": "\x01",
	}[signature]
	content := strings.Repeat(element, hugeSize/len(element))
	if signature == "as" {
		content = content[:len(content)-3] // nothing is padded behind the last
	}
	body := binary.LittleEndian.AppendUint32(make([]byte, 0, len(content)+5), uint32(len(content)))
	body = append(body, content...)
	if signature == "s" {
		body = append(body, 0)
	}
	return body
}

var hugeSignatures = []string{"ay", "aay", "av", "as", "s"}

// huge sends each kind of body to the serving connection as a call, then to the others
// as a signal, and only then the other way round.
func huge(h *hostile, c *rawbus.Conn, n int) error {
	signature, round := hugeSignatures[n%len(hugeSignatures)], n/len(hugeSignatures)
	to, call := h.targets[round%len(h.targets)], round%len(h.targets) == 0
	if round/len(h.targets)%2 == 1 {
		call = !call
	}
	m := rawbus.NewSignal(to, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved")
	if call {
		m = method("RequestMode")
		if signature == "s" {
			m = method("Explain") // which takes it, and has to refuse it
		}
	}
	return h.send("huge", c, m.WithEncoded(signature, h.bodies[signature]))
}

func descriptors(h *hostile, c *rawbus.Conn, _ int) error {
	for _, to := range h.targets {
		m := rawbus.NewSignal(to, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved")
		if err := c.SendDescriptors(m, slices.Repeat([]int{h.null}, 16)...); err != nil {
			return err
		}
		h.mu.Lock()
		h.sent["descriptors"]++
		h.mu.Unlock()
	}
	return nil
}

// deaf wants every signal and every answer, and reads none.
func deaf(h *hostile, c *rawbus.Conn, n int) error {
	if n == 0 {
		rule := rawbus.NewCall(
			rawbus.BusName, rawbus.BusPath, rawbus.BusName, "AddMatch",
		).With(rawbus.String("type='signal'"))
		return h.send("deaf", c, rule)
	}
	return h.send("deaf", c, property("GetAll", rawbus.String(busapi.Interface)))
}

// leaving asks for what takes a password, and is gone when the password is asked for.
func leaving(h *hostile, _ *rawbus.Conn, n int) error {
	c, err := h.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	m := method("RequestMode", rawbus.String("compute"), rawbus.Uint64(0), rawbus.Dict())
	if n%2 == 1 {
		m = method("Inhibit", rawbus.String(""), rawbus.String("x"), rawbus.String(fmt.Sprint(n)), rawbus.String("block"))
	}
	m.Flags = rawbus.Interactive
	return h.send("leaving", c, m)
}
