// Command fuzzbus sends random legal messages to every connection of dubniumd on the
// system bus, as whoever runs it, and prints how many were sent and answered.
//
//	fuzzbus [--messages N]
//
// DUBNIUM_FUZZ_SEED repeats a run.
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/dbusfuzz"
	"github.com/dubnium/dubnium/internal/rawbus"
)

const systemBus = "unix:path=/run/dbus/system_bus_socket"

func main() {
	messages := flag.Uint64("messages", 1000, "how many are sent")
	flag.Parse()
	if err := run(*messages); err != nil {
		fmt.Fprintf(os.Stderr, "fuzzbus: %v\n", err)
		os.Exit(1)
	}
}

func run(messages uint64) error {
	seed, err := dbusfuzz.Seed()
	if err != nil {
		return err
	}
	targets, words, err := find()
	if err != nil {
		return err
	}
	fmt.Printf("%s=%d, %d connections\n", dbusfuzz.SeedVariable, seed, len(targets))
	generator := dbusfuzz.Generator{Seed: seed, Targets: targets, Words: words}
	s := sender{answers: map[string]int{}}
	for i := range messages {
		if err := s.send(generator.Message(i).Message); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	if err := s.drain(); err != nil {
		return err
	}
	fmt.Printf("sent %d, the bus ended the connection %d times, answers: %v\n", messages, s.ended, s.answers)
	return nil
}

// find asks the bus for the daemon's connections and the daemon for its methods.
func find() (targets []dbusfuzz.Target, words []string, err error) {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	pidOf := func(name string) (pid uint32, err error) {
		return pid, conn.BusObject().Call(rawbus.BusName+".GetConnectionUnixProcessID", 0, name).Store(&pid)
	}
	daemon, err := pidOf(busapi.BusName)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot find dubniumd: %w", err)
	}
	var serves string
	if err := conn.BusObject().Call(rawbus.BusName+".GetNameOwner", 0, busapi.BusName).Store(&serves); err != nil {
		return nil, nil, err
	}
	var document string
	object := conn.Object(busapi.BusName, busapi.Path)
	if err := object.Call(busapi.IntrospectableInterface+".Introspect", 0).Store(&document); err != nil {
		return nil, nil, err
	}
	methods, words, err := dbusfuzz.Introspected(string(busapi.Path), document)
	if err != nil {
		return nil, nil, err
	}
	targets = []dbusfuzz.Target{{Names: []string{serves, busapi.BusName}, Methods: methods}}
	var names []string
	if err := conn.BusObject().Call(rawbus.BusName+".ListNames", 0).Store(&names); err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		if pid, err := pidOf(name); err == nil && pid == daemon && name[0] == ':' && name != serves {
			targets = append(targets, dbusfuzz.Target{Names: []string{name}})
		}
	}
	return targets, words, nil
}

// sender sends in volleys, each of which it sees answered.
type sender struct {
	conn    *rawbus.Conn
	pending int
	ended   int
	answers map[string]int
}

// volley is how many messages are sent before answers are read. A bus that refuses a
// message ends the connection, and the answers that were not read are lost.
// dbus-broker refuses one in ten, because it allows less nesting than the
// specification.
const volley = 4

func (s *sender) send(m *rawbus.Message) (err error) {
	if s.conn == nil {
		if s.conn, err = rawbus.Dial(systemBus, rawbus.Self); err != nil {
			return err
		}
	}
	if s.pending++; s.conn.Send(m) != nil || s.pending == volley {
		return s.drain()
	}
	return nil
}

// drain reads what came, up to the answer to a question to the bus itself. A connection
// that has ended is left: the bus may refuse what is legal.
func (s *sender) drain() error {
	if s.conn == nil {
		return nil
	}
	s.pending = 0
	mark := rawbus.NewCall(rawbus.BusName, rawbus.BusPath, rawbus.BusName, "GetId")
	err := s.conn.Send(mark)
	for err == nil {
		var r rawbus.Received
		if r, err = s.conn.Read(); err != nil {
			break
		}
		if r.Answers(mark.Serial) {
			return nil
		}
		switch r.Type {
		case rawbus.Error:
			s.answers[r.ErrorName]++
		case rawbus.Return:
			s.answers["return"]++
		}
	}
	s.ended++
	conn := s.conn
	s.conn = nil
	return conn.Close()
}
