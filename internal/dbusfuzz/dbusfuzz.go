// Package dbusfuzz makes random D-Bus messages that are legal and that no
// library of good manners sends: every type, empty containers of each, numbers
// that are none, containers in containers down to the specification's limits,
// both byte orders, flags and header fields that nobody knows, and calls that are
// all but right. A bus passes each of them on, so whoever has a connection to a
// system bus has to withstand them from anybody.
//
// A message is a function of a seed and an index, so that any one of a run can be
// sent again.
package dbusfuzz

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"

	"github.com/dubnium/dubnium/internal/rawbus"
)

// Kind says how a message was made.
type Kind string

// The kinds of messages. There are none of a type that the specification does not
// have: the bus passes those on to nobody.
const (
	Hostile Kind = "call with the right signature"
	Mutated Kind = "call that was changed"
	Random  Kind = "random call"
	Signal  Kind = "signal"
	Return  Kind = "method return"
	Failure Kind = "error"
)

// Target is a connection that messages are sent to.
type Target struct {
	// Names are those it can be reached by.
	Names []string
	// Methods are what it serves, if anything.
	Methods []Method
}

// SeedVariable names the environment variable that has the seed of a run which is to
// be repeated.
const SeedVariable = "DUBNIUM_FUZZ_SEED"

// Seed is the one in the environment, or a new one.
func Seed() (uint64, error) {
	text, set := os.LookupEnv(SeedVariable)
	if !set {
		return rand.Uint64(), nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read %s: %w", SeedVariable, err)
	}
	return seed, nil
}

// Generator makes messages for the targets.
type Generator struct {
	Seed    uint64
	Targets []Target
	// Words are strings that mean something to a target.
	Words []string
}

// Sample is a message, and what was put into it.
type Sample struct {
	Index uint64
	Kind  Kind
	// Target is the index of whom it is for.
	Target  int
	Message *rawbus.Message
	Body    []rawbus.Value
}

// String tells of a sample in a line.
func (s Sample) String() string {
	var signature, member string
	for _, v := range s.Body {
		signature += v.Type
	}
	var codes []byte
	for _, f := range s.Message.Fields {
		codes = append(codes, f.Code)
		if f.Code == rawbus.FieldMember {
			member = f.Value.Text
		}
	}
	return fmt.Sprintf("message %d (%s to connection %d, member %.60q, flags %#x, header fields %v, body %.60q of %d bytes)",
		s.Index, s.Kind, s.Target, member, s.Message.Flags, codes, signature, len(s.Message.Body))
}

// mostValues bounds the values in one message, roughly.
const mostValues = 300

// Message makes the message of this index.
func (g *Generator) Message(index uint64) Sample {
	d := &draw{Rand: rand.New(rand.NewPCG(g.Seed, index)), words: g.Words, left: mostValues}
	s := Sample{Index: index, Target: d.target(len(g.Targets))}
	target := g.Targets[s.Target]
	s.Kind = d.kind(len(target.Methods) > 0)
	m := &rawbus.Message{Order: pick[binary.AppendByteOrder](d, binary.LittleEndian, binary.BigEndian)}
	switch s.Kind {
	case Hostile, Mutated:
		method := pick(d, target.Methods...)
		m.Type = rawbus.Call
		m.Fields = named(method.Path, method.Interface, method.Member)
		s.Body = d.arguments(method)
		if s.Kind == Mutated {
			s.Body = d.mutate(s.Body)
			d.mutateHeader(m)
		}
	case Random:
		m.Type = rawbus.Call
		m.Fields = named(d.path(), d.iface(), d.name(1+d.IntN(maxName)))
		d.mutateHeader(m)
		s.Body = d.body()
	case Signal:
		m.Type = rawbus.Signal
		m.Fields = d.signal()
		s.Body = d.body()
	case Return, Failure:
		d.answer(m, s.Kind)
		s.Body = d.body()
	}
	m.Fields = append(
		m.Fields, rawbus.Field{Code: rawbus.FieldDestination, Value: rawbus.String(pick(d, target.Names...))},
	)
	m.With(s.Body...)
	d.surroundings(m)
	s.Message = m
	return s
}

// target draws whom a message is for. The first gets half of them.
func (d *draw) target(n int) int {
	if n == 1 || d.chance(2) {
		return 0
	}
	return 1 + d.IntN(n-1)
}

func (d *draw) kind(serves bool) Kind {
	kinds := []Kind{Random, Signal, Signal, Return, Failure}
	if serves && !d.chance(4) {
		kinds = []Kind{Hostile, Hostile, Mutated}
	}
	return pick(d, kinds...)
}

func named(path, iface, member string) []rawbus.Field {
	return []rawbus.Field{
		{Code: rawbus.FieldPath, Value: rawbus.Path(path)},
		{Code: rawbus.FieldInterface, Value: rawbus.String(iface)},
		{Code: rawbus.FieldMember, Value: rawbus.String(member)},
	}
}

// body draws one of any signature.
func (d *draw) body() []rawbus.Value {
	if d.chance(6) {
		return []rawbus.Value{d.deep(0)}
	}
	var values []rawbus.Value
	for _, t := range split(d.signature()) {
		values = append(values, d.value(t, 0))
	}
	return values
}

// arguments draws those of a method, hostile within what its signature allows.
func (d *draw) arguments(m Method) (values []rawbus.Value) {
	for _, t := range m.In {
		if t == "a{sv}" && !d.chance(4) {
			values = append(values, d.options())
			continue
		}
		values = append(values, d.value(t, 0))
	}
	return values
}

// options draws an a{sv} whose keys may be known, and may be there twice.
func (d *draw) options() rawbus.Value {
	dict := rawbus.Dict()
	for range 1 + d.IntN(4) {
		dict.Parts = append(dict.Parts, rawbus.Option(pick(d, d.words...), d.inVariant(3)))
	}
	return dict
}

// mutate changes arguments in a way that their signature is another one.
func (d *draw) mutate(values []rawbus.Value) []rawbus.Value {
	values = slices.Clone(values)
	switch d.IntN(5) {
	case 0:
		return d.body()
	case 1:
		return append(values, d.value(d.complete(60, 0), 0))
	case 2:
		if len(values) > 0 {
			return values[:d.IntN(len(values))]
		}
	case 3:
		if len(values) > 0 {
			at := d.IntN(len(values))
			values[at] = rawbus.Variant(d.value(values[at].Type, 1))
		}
	case 4:
		if len(values) > 0 {
			values[d.IntN(len(values))] = d.value(d.complete(60, 0), 0)
		}
	}
	return values
}

// mutateHeader leaves out the interface, or asks for what is not there.
func (d *draw) mutateHeader(m *rawbus.Message) {
	switch d.IntN(6) {
	case 0, 1:
		m.Fields = slices.DeleteFunc(m.Fields, func(f rawbus.Field) bool { return f.Code == rawbus.FieldInterface })
	case 2:
		m.Fields[0].Value.Text = d.path()
	case 3:
		m.Fields[1].Value.Text = d.iface()
	case 4:
		m.Fields[2].Value.Text = d.name(1 + d.IntN(maxName))
	}
}

// heard are signals that a program may listen to. All of them mean something to one
// that looks at the host.
var heard = [][3]string{
	{"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved"},
	{"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "UnitRemoved"},
	{"/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "Reloading"},
	{"/org/freedesktop/systemd1/unit/compute_2etarget", "org.freedesktop.DBus.Properties", "PropertiesChanged"},
	{"/org/freedesktop/login1", "org.freedesktop.login1.Manager", "SessionNew"},
	{"/org/freedesktop/login1", "org.freedesktop.login1.Manager", "SessionRemoved"},
	{"/org/freedesktop/login1/session/_31", "org.freedesktop.DBus.Properties", "PropertiesChanged"},
	{"/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged"},
	{"/org/freedesktop/DBus", "org.freedesktop.DBus", "NameAcquired"},
	{"/org/freedesktop/DBus", "org.freedesktop.DBus", "NameLost"},
	{"/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority", "Changed"},
}

func (d *draw) signal() []rawbus.Field {
	if d.chance(3) {
		return named(d.path(), d.iface(), d.name(1+d.IntN(maxName)))
	}
	s := pick(d, heard...)
	return named(s[0], s[1], s[2])
}

// answer makes an answer that nobody may have asked for. The serial may be one that
// somebody waits for.
func (d *draw) answer(m *rawbus.Message, kind Kind) {
	m.Type = rawbus.Return
	m.Fields = []rawbus.Field{
		{Code: rawbus.FieldReplySerial, Value: rawbus.Uint32(1 + d.Uint32N(pick[uint32](d, 30, 3000, 1<<31)))},
	}
	if kind == Failure {
		m.Type = rawbus.Error
		name := pick(d, d.iface(), "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.ServiceUnknown")
		m.Fields = append(m.Fields, rawbus.Field{Code: rawbus.FieldErrorName, Value: rawbus.String(name)})
	}
}

// lastKnownField is the last that any version of the specification or of the
// reference implementation gives a type.
const lastKnownField = 10

// surroundings draws the flags, and header fields that nobody knows.
func (d *draw) surroundings(m *rawbus.Message) {
	switch d.IntN(6) {
	case 0:
		m.Flags = byte(d.IntN(256))
	case 1, 2:
		m.Flags = byte(d.IntN(8))
	}
	if d.chance(8) {
		m.Fields = append(
			m.Fields,
			rawbus.Field{
				Code: rawbus.FieldSender, Value: rawbus.String(pick(d, "org.freedesktop.systemd1", "org.freedesktop.DBus", ":1.0")),
			},
		)
	}
	for code := lastKnownField + 1 + d.IntN(40); code < 256 && d.chance(6); code += 1 + d.IntN(40) {
		m.Fields = append(m.Fields, rawbus.Field{Code: byte(code), Value: d.inVariant(headerDepth)})
	}
	d.Shuffle(len(m.Fields), func(i, j int) { m.Fields[i], m.Fields[j] = m.Fields[j], m.Fields[i] })
}
