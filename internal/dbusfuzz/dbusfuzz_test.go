package dbusfuzz_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/internal/dbusfuzz"
	"github.com/dubnium/dubnium/internal/rawbus"
)

const introspection = `<node><interface name="com.example.One">
	<method name="Set"><arg type="s"/><arg type="v" direction="in"/><arg type="u" direction="out"/></method>
	<method name="Ask"><arg type="a{sv}" direction="in"/><arg type="as" direction="in"/></method>
	<method name="Ping"/><property name="Colour" type="s" access="read"/></interface></node>`

// generator is one for two connections, the first of which serves something.
func generator(t *testing.T, seed uint64, names ...string) *dbusfuzz.Generator {
	t.Helper()
	methods, words, err := dbusfuzz.Introspected("/com/example", introspection)
	require.NoError(t, err)
	g := &dbusfuzz.Generator{Seed: seed, Words: words}
	for i, name := range names {
		target := dbusfuzz.Target{Names: []string{name}}
		if i == 0 {
			target.Methods = methods
		}
		g.Targets = append(g.Targets, target)
	}
	return g
}

func TestIntrospectedMethodsAndNames(t *testing.T) {
	methods, names, err := dbusfuzz.Introspected("/com/example", introspection)
	require.NoError(t, err)
	require.Equal(t, []dbusfuzz.Method{
		{"/com/example", "com.example.One", "Set", []string{"s", "v"}},
		{"/com/example", "com.example.One", "Ask", []string{"a{sv}", "as"}},
		{"/com/example", "com.example.One", "Ping", nil},
	}, methods)
	require.Equal(t, []string{"com.example.One", "Colour", "Set", "Ask", "Ping"}, names)
	_, _, err = dbusfuzz.Introspected("/", "<node")
	require.Error(t, err)
}

func TestAMessageIsAFunctionOfSeedAndIndex(t *testing.T) {
	one, same, other := generator(t, 7, ":1.1", ":1.2"), generator(t, 7, ":1.1", ":1.2"), generator(t, 8, ":1.1", ":1.2")
	same.Message(3) // what was drawn before is of no matter
	for i := range uint64(200) {
		require.Equal(t, one.Message(i).Message.Encode(), same.Message(i).Message.Encode())
		require.NotEqual(t, one.Message(i).Message.Encode(), other.Message(i).Message.Encode())
	}
}

// arrivals reads what others send to a connection until it ends, and answers calls:
// the bus lets nobody wait for more than 128 answers.
func arrivals(conn *rawbus.Conn) <-chan rawbus.Received {
	all := make(chan rawbus.Received, 1000)
	go func() {
		defer close(all)
		for {
			r, err := conn.Read()
			if err != nil {
				return
			}
			if r.Sender == rawbus.BusName {
				continue
			}
			if r.Type == rawbus.Call && r.Flags&rawbus.NoReply == 0 {
				err = conn.Send(rawbus.NewReturn(r))
			}
			if all <- r; err != nil {
				return
			}
		}
	}()
	return all
}

// delivered sends the samples and requires that each of them comes, as it was made.
func delivered(t *testing.T, sender *rawbus.Conn, receiver <-chan rawbus.Received, samples ...dbusfuzz.Sample) {
	t.Helper()
	for _, s := range samples {
		require.NoError(t, sender.Send(s.Message), "%v", s)
	}
	for _, s := range samples {
		select {
		case r, ok := <-receiver:
			require.True(t, ok)
			require.Equal(t, s.Message.Type, r.Type, "%v", s)
			require.Equal(t, sender.Name(), r.Sender)
			require.True(t, bytes.Equal(s.Message.Body, r.Body), "%v", s)
		case <-time.After(30 * time.Second):
			// The sender was disconnected, and this says why.
			_, err := sender.Ask(rawbus.NewCall(rawbus.BusName, rawbus.BusPath, rawbus.BusName, "GetId"))
			require.FailNow(t, "a message did not come", "%v: the bus says to the sender: %v", s, err)
		}
	}
}

// connect gives a sender, a receiver's name and what comes to it.
func connect(t *testing.T) (sender *rawbus.Conn, name string, receiver <-chan rawbus.Received) {
	t.Helper()
	address := bustest.Start(t)
	sender, err := rawbus.Dial(address, rawbus.Self)
	require.NoError(t, err)
	conn, err := rawbus.Dial(address, rawbus.Self)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, sender.Close())
		assert.NoError(t, conn.Close())
	})
	return sender, conn.Name(), arrivals(conn)
}

// The bus passes on what is legal and disconnects who sends anything else.
func TestEveryMessageIsLegal(t *testing.T) {
	sender, name, receiver := connect(t)
	seed, err := dbusfuzz.Seed()
	require.NoError(t, err)
	t.Logf("%s=%d repeats this", dbusfuzz.SeedVariable, seed)
	g := generator(t, seed, name, name)
	for i := uint64(0); i < 6000; i += 20 {
		var batch []dbusfuzz.Sample
		for n := range uint64(20) {
			batch = append(batch, g.Message(i+n))
		}
		delivered(t, sender, receiver, batch...)
	}
}

// What is one container deeper than the generator goes is illegal.
func TestTheBusRefusesWhatIsDeeperThanTheGeneratorGoes(t *testing.T) {
	nested := func(depth int) dbusfuzz.Sample {
		v := rawbus.Array("{bs}")
		for range depth {
			v = rawbus.Variant(v)
		}
		s := dbusfuzz.Sample{Body: []rawbus.Value{v}}
		return s
	}
	sender, name, receiver := connect(t)
	legal, illegal := nested(64), nested(65)
	legal.Message = rawbus.NewSignal(name, "/", "a.b", "C").With(legal.Body...)
	illegal.Message = rawbus.NewSignal(name, "/", "a.b", "C").With(illegal.Body...)
	require.Equal(t, 64, seenIn(legal.Body).depth)
	delivered(t, sender, receiver, legal)
	require.NoError(t, sender.Send(illegal.Message))
	_, err := sender.Ask(rawbus.NewCall(rawbus.BusName, rawbus.BusPath, rawbus.BusName, "GetId"))
	require.Error(t, err, "the bus has disconnected the sender")
}

// features are what values have in them.
type features struct {
	types, emptyArrays, emptyKeys map[string]bool // by the first letter of the type
	words                         map[string]bool
	depth, signature, text        int // the greatest
	arrays                        int // the most in each other, as one type
}

func (f *features) see(v rawbus.Value, depth int) {
	letter := v.Type[:1]
	f.types[letter] = true
	switch {
	case letter == "a" && len(v.Parts) == 0 && v.Type[1] == '{':
		f.emptyKeys[v.Type[2:3]] = true
	case letter == "a" && len(v.Parts) == 0:
		f.emptyArrays[v.Type[1:2]] = true
	}
	if letter == "a" && v.Type[1] == '{' {
		f.seeKeys(v.Parts)
	}
	if letter == "d" {
		f.seeDouble(math.Float64frombits(v.Bits), v.Bits)
	}
	if letter == "g" {
		f.signature = max(f.signature, len(v.Text))
	}
	f.text = max(f.text, len(v.Text))
	if strings.ContainsRune(v.Text, '\u202e') {
		f.words["right to left"] = true
	}
	f.depth = max(f.depth, depth)
	f.arrays = max(f.arrays, len(v.Type)-len(strings.TrimLeft(v.Type, "a")))
	for _, part := range v.Parts {
		f.see(part, depth+1)
	}
}

// seeKeys notes keys that a map of Go's does not find again, or has only once.
func (f *features) seeKeys(entries []rawbus.Value) {
	seen := map[string]bool{}
	for _, e := range entries {
		key := e.Parts[0]
		if key.Type == "d" && math.IsNaN(math.Float64frombits(key.Bits)) {
			f.words["NaN as a key"] = true
		}
		if key.Type == "s" && seen[key.Text] {
			f.words["a key twice"] = true
		}
		seen[key.Text] = true
	}
}

func (f *features) seeDouble(d float64, bits uint64) {
	for word, ok := range map[string]bool{
		"NaN": math.IsNaN(d), "infinity": math.IsInf(d, 0), "negative zero": d == 0 && bits != 0,
	} {
		f.words[word] = f.words[word] || ok
	}
}

func newFeatures() *features {
	return &features{
		types: map[string]bool{}, emptyArrays: map[string]bool{}, emptyKeys: map[string]bool{}, words: map[string]bool{},
	}
}

func seenIn(values []rawbus.Value) *features {
	f := newFeatures()
	for _, v := range values {
		f.see(v, 0)
	}
	return f
}

// seeMessage notes what is special about a header.
func (f *features) seeMessage(s dbusfuzz.Sample) {
	f.words[string(s.Kind)] = true
	m := s.Message
	known := map[byte]rawbus.Value{}
	for _, field := range m.Fields {
		known[field.Code] = field.Value
	}
	_, hasInterface := known[rawbus.FieldInterface]
	for word, ok := range map[string]bool{
		"big endian":        m.Encode()[0] == 'B',
		"unknown flags":     m.Flags >= 8,
		"no reply":          m.Type == rawbus.Call && !m.ExpectsReply(),
		"no interface":      m.Type == rawbus.Call && !hasInterface,
		"unknown field":     len(known) > 0 && maxCode(m) > rawbus.FieldUnixFDs,
		"longest member":    len(known[rawbus.FieldMember].Text) == 255,
		"no body":           len(m.Body) == 0,
		"longest body":      len(known[rawbus.FieldSignature].Text) == 255,
		"forged sender":     known[rawbus.FieldSender].Text != "",
		"second connection": s.Target == 1,
	} {
		f.words[word] = f.words[word] || ok
	}
}

func maxCode(m *rawbus.Message) (code byte) {
	for _, field := range m.Fields {
		code = max(code, field.Code)
	}
	return code
}

// Within as many messages as a short run sends there is one of everything.
func TestTheMessagesCoverTheProtocol(t *testing.T) {
	g := generator(t, 1, ":1.1", ":1.2")
	f := newFeatures()
	for i := range uint64(4000) {
		s := g.Message(i)
		f.seeMessage(s)
		for _, v := range s.Body {
			f.see(v, 0)
		}
	}
	const basics = "ybnqiuxtdsogh"
	for _, letter := range basics {
		assert.True(t, f.types[string(letter)], "a value of type %c", letter)
		assert.True(t, f.emptyKeys[string(letter)], "an empty dictionary with keys of type %c", letter)
	}
	for _, letter := range basics + "va(" {
		assert.True(t, f.emptyArrays[string(letter)], "an empty array of %c", letter)
	}
	for _, letter := range "va({" {
		assert.True(t, f.types[string(letter)], "a %c", letter)
	}
	for _, word := range []string{
		"NaN", "NaN as a key", "infinity", "negative zero", "a key twice", "right to left",
		"big endian", "unknown flags", "no reply", "no interface", "unknown field", "longest member", "no body", "longest body",
		"forged sender", "second connection",
		string(dbusfuzz.Hostile), string(dbusfuzz.Mutated), string(dbusfuzz.Random), string(dbusfuzz.Signal),
		string(dbusfuzz.Return), string(dbusfuzz.Failure),
	} {
		assert.True(t, f.words[word], word)
	}
	assert.Equal(t, 64, f.depth, "containers in containers")
	assert.Equal(t, 32, f.arrays, "arrays in arrays")
	assert.Equal(t, 255, f.signature, "the longest signature")
	assert.Greater(t, f.text, 65_536)
}
