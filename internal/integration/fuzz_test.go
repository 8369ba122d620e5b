//go:build integration

package integration

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/dbusfuzz"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/rawbus"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

const (
	// fuzzVariable says how long random messages are sent, in place of briefly.
	fuzzVariable = "DUBNIUM_FUZZ"
	// messageVariable is the index of the one message of a seed to send.
	messageVariable = "DUBNIUM_FUZZ_MESSAGE"
	briefly         = 5 * time.Second

	// volleySize is how many messages are sent before everything is checked. The bus lets
	// a connection wait for 128 answers.
	volleySize = 64
	// mostDeaths ends a run early: each costs a new daemon and a search.
	mostDeaths = 10
	// mostText bounds an error's text, in bytes.
	mostText = 4 << 10
)

// Whatever is legal on a bus comes from anybody. The daemon must not need the bus
// policy to survive it.
func TestNoLegalMessageHarmsTheDaemon(t *testing.T) {
	for name, host := range map[string]testhost.Options{
		"with the bus policy":              {PolicyDirs: installedPolicy(t)},
		"on a bus that lets everything by": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFuzz(t, host)
			f.run(t)
			f.report(t)
		})
	}
}

// Each of these alone ended a daemon whose library decoded it. It comes as an option,
// which anybody may send with a call that needs no right.
func TestTheMessagesThatEndedTheDaemonAreAnswered(t *testing.T) {
	t.Parallel()
	deep := rawbus.Dict()
	for range 61 { // with what is around it, as many as the specification allows
		deep = rawbus.Variant(deep)
	}
	entry := func(key rawbus.Value) rawbus.Value { return rawbus.Entry(key, rawbus.Uint32(1)) }
	for name, value := range map[string]rawbus.Value{
		"a NaN key":                rawbus.Array("{du}", entry(rawbus.Double(math.NaN()))),
		"a boolean key":            rawbus.Array("{bu}", entry(rawbus.Bool(true))),
		"no boolean key":           rawbus.Array("{bu}"),
		"a signature key":          rawbus.Array("{gu}", entry(rawbus.Signature("s"))),
		"a dictionary in variants": deep,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, testhost.Options{}, nil)
			conn, err := rawbus.Dial(w.Address(), strangerOf(0))
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			options := rawbus.Dict(rawbus.Option("x", value))
			r, err := conn.Ask(method("Plan", rawbus.String("desktop"), rawbus.Uint64(0), options))
			require.NoError(t, err)
			require.Equal(t, "org.dubnium.Mode1.Error.BadOption", r.ErrorName, r.Text)
			require.Equal(t, "desktop\n", modectl(t, w, "current", "--refresh").stdout)
		})
	}
}

// fuzz is a run of random messages.
type fuzz struct {
	w   *embedded.Workstation
	log *logTail
	gen *dbusfuzz.Generator
	c   *watcher // root's
	end time.Time

	gone        chan struct{} // closed when this daemon has ended
	before      published
	descriptors int
	volleys     int

	sent    map[dbusfuzz.Kind]int
	answers map[string]int
	faults  map[string]*faultSeen
	deaths  int
}

// faultSeen is a way to go wrong: how often it was seen, and some of the times.
type faultSeen struct {
	count int
	some  []string
}

func newFuzz(t *testing.T, host testhost.Options) *fuzz {
	t.Helper()
	seed, err := dbusfuzz.Seed()
	require.NoError(t, err)
	t.Logf("%s=%d repeats this", dbusfuzz.SeedVariable, seed)
	long := durationOf(t, fuzzVariable, briefly)
	host.Authorize = answersByAction(
		"org.dubnium.mode1.inhibit-block", "org.dubnium.mode1.inhibit-delay", "org.dubnium.mode1.cancel",
	)
	f := &fuzz{
		log: &logTail{}, end: time.Now().Add(long),
		gen:  &dbusfuzz.Generator{Seed: seed, Words: append(contractWords(), "")},
		sent: map[dbusfuzz.Kind]int{}, answers: map[string]int{}, faults: map[string]*faultSeen{},
	}
	f.w = startFor(lasting(t, long), t, embedded.Options{Host: host, Log: f.log})
	f.c = watch(t, f.w)
	f.meet(t)
	return f
}

// contractWords are those that the contract gives a meaning.
func contractWords() []string {
	words := []string{
		busapi.Interface, busapi.PropertiesInterface, "block", "delay", "success", "check_audio_idle", "check_no_such_thing",
		busapi.OptionReason, busapi.OptionPlan, busapi.OptionGrace, busapi.OptionFor, busapi.OptionUntilIdle, busapi.OptionConfirm,
		"since", "until", "result", "mode", "by", "uid", "id", "limit", "no-such-key",
	}
	for _, m := range policy.Modes() {
		words = append(words, string(m))
	}
	return words
}

// meet takes up a daemon that has just been started.
func (f *fuzz) meet(t *testing.T) {
	t.Helper()
	gone, ctx := make(chan struct{}), t.Context()
	f.gone = gone
	go func() {
		if _, err := f.w.AwaitDaemonExit(ctx); err == nil {
			close(gone)
		}
	}()
	var data string
	require.NoError(
		t, f.c.conn.Object(busapi.BusName, busapi.Path).Call(busapi.IntrospectableInterface+".Introspect", 0).Store(&data),
	)
	methods, names, err := dbusfuzz.Introspected(string(busapi.Path), data)
	require.NoError(t, err)
	require.NotEmpty(t, methods)
	f.gen.Targets = nil
	for _, unique := range connectionsOf(t, f.c.conn, f.w) {
		f.gen.Targets = append(f.gen.Targets, dbusfuzz.Target{Names: []string{unique}})
	}
	require.Greater(t, len(f.gen.Targets), 1, "the daemon has several connections")
	served := &f.gen.Targets[0]
	served.Names, served.Methods = append(served.Names, busapi.BusName), methods
	if f.deaths == 0 {
		f.gen.Words = append(f.gen.Words, names...)
	}
	before, err := f.look(bounded(t))
	require.NoError(t, err)
	f.before, f.descriptors = before, openFiles(t, f.w.DaemonPID())
}

// run sends messages until the time is over, or one that was asked for.
func (f *fuzz) run(t *testing.T) {
	t.Helper()
	if text, only := os.LookupEnv(messageVariable); only {
		index, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		f.try(t, f.gen.Message(index))
		return
	}
	next := uint64(0)
	for time.Now().Before(f.end) && f.deaths < mostDeaths {
		var samples []dbusfuzz.Sample
		for range volleySize {
			samples = append(samples, f.gen.Message(next))
			next++
		}
		if !f.try(t, samples...) {
			f.search(t, samples)
		}
	}
}

// try sends the samples and checks everything. It returns false when the daemon
// died, and there is another one then.
func (f *fuzz) try(t *testing.T, samples ...dbusfuzz.Sample) (survived bool) {
	t.Helper()
	for _, s := range samples {
		f.sent[s.Kind]++
	}
	f.volley(t, samples)
	which := samples[0].String()
	if len(samples) > 1 {
		which = fmt.Sprintf("one of %d to %d", samples[0].Index, samples[len(samples)-1].Index)
	}
	if f.alive(t, which) {
		return true
	}
	lastWords := f.log.lastWords()
	if f.deaths++; len(samples) == 1 {
		f.fault("the daemon died", which+": "+lastWords)
	}
	require.NoError(t, f.w.StartDaemon(bounded(t)))
	f.meet(t)
	return false
}

// search looks for the message that the daemon died of, by sending each alone.
func (f *fuzz) search(t *testing.T, samples []dbusfuzz.Sample) {
	t.Helper()
	for _, s := range samples {
		if !f.try(t, f.gen.Message(s.Index)) { // the daemon's connections have other names now
			return
		}
	}
	f.fault(
		"the daemon died of several messages", fmt.Sprintf("%d to %d", samples[0].Index, samples[len(samples)-1].Index),
	)
}

// fault notes that something went wrong.
func (f *fuzz) fault(what, which string) {
	if f.faults[what] == nil {
		f.faults[what] = &faultSeen{}
	}
	seen := f.faults[what]
	if seen.count++; len(seen.some) < mostDeaths {
		seen.some = append(seen.some, which)
	}
}

// volley sends the samples from a connection of its own, and takes the answers.
func (f *fuzz) volley(t *testing.T, samples []dbusfuzz.Sample) {
	t.Helper()
	f.volleys++
	conn, err := rawbus.Dial(f.w.Address(), strangerOf(f.volleys))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	fence := rawbus.NewCall(rawbus.BusName, rawbus.BusPath, rawbus.BusName, "GetId")
	var messages []*rawbus.Message
	for _, s := range samples {
		messages = append(messages, s.Message)
	}
	// The bus answers the fence when it has passed on all that was sent before it.
	require.NoError(t, conn.Send(append(messages, fence)...))
	waiting := map[uint32]dbusfuzz.Sample{}
	for _, s := range samples {
		if s.Message.ExpectsReply() {
			waiting[s.Message.Serial] = s
		}
	}
	f.collect(t, received(t, conn), waiting, fence.Serial)
}

// received reads what comes to a connection until it is closed.
func received(t *testing.T, conn *rawbus.Conn) <-chan rawbus.Received {
	t.Helper()
	all, ctx := make(chan rawbus.Received), t.Context()
	go func() {
		defer close(all)
		for {
			r, err := conn.Read()
			if err != nil {
				return
			}
			select {
			case all <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	return all
}

// collect takes the answers to those who wait for one until all whom the serving
// connection owes one, and the fence, have it; it notes who has none in time.
func (f *fuzz) collect(t *testing.T, from <-chan rawbus.Received, waiting map[uint32]dbusfuzz.Sample, fence uint32) {
	t.Helper()
	const noAnswer = "a call got no answer"
	bound := 10 * time.Second
	if f.faults[noAnswer] != nil {
		bound = 300 * time.Millisecond // it is known by now
	}
	late, fenced, answered := time.After(bound), false, map[uint32]bool{}
	for !fenced || servingOwes(waiting) {
		select {
		case r, ok := <-from:
			require.True(t, ok, "the bus has disconnected the sender: something was not legal")
			fenced = fenced || r.Answers(fence)
			f.answer(r, waiting, answered)
		case <-f.gone:
			return
		case <-late:
			require.True(t, fenced, "the bus does not answer")
			for _, s := range waiting {
				if s.Target == 0 {
					f.fault(noAnswer, s.String())
				}
			}
			return
		}
	}
}

// servingOwes reports whether anybody waits for the connection that serves.
func servingOwes(waiting map[uint32]dbusfuzz.Sample) bool {
	for _, s := range waiting {
		if s.Target == 0 {
			return true
		}
	}
	return false
}

// answer takes a message in that may be an answer.
func (f *fuzz) answer(r rawbus.Received, waiting map[uint32]dbusfuzz.Sample, answered map[uint32]bool) {
	s, waits := waiting[r.ReplySerial]
	switch {
	case r.Type != rawbus.Return && r.Type != rawbus.Error:
		return
	case answered[r.ReplySerial]:
		f.fault("a call got two answers", fmt.Sprintf("serial %d: %s %s", r.ReplySerial, r.ErrorName, r.Text))
		return
	case !waits:
		return // the fence
	}
	delete(waiting, r.ReplySerial)
	answered[r.ReplySerial] = true
	name := r.ErrorName
	if r.Type == rawbus.Return {
		name = "method return"
	} else if !ofContract(name) {
		f.fault("an error has a name that is not the contract's: "+name, s.String())
	}
	if len(r.Text) > mostText && r.Type == rawbus.Error {
		f.fault(fmt.Sprintf("an error's text has more than %d bytes", mostText), s.String())
	}
	f.answers[name]++
}

// report fails the test with everything that went wrong.
func (f *fuzz) report(t *testing.T) {
	t.Helper()
	total, limited := 0, 0
	for name, n := range f.answers {
		if total += n; slices.Contains([]string{
			"org.dubnium.Mode1.Error.LimitExceeded", "org.dubnium.Mode1.Error.RateLimited",
			"org.freedesktop.DBus.Error.LimitsExceeded",
		}, name) {
			limited += n
		}
	}
	t.Logf("sent: %v", f.sent)
	t.Logf("answers: %v", f.answers)
	t.Logf("%d volleys, %d of %d answers say that a limit is exceeded", f.volleys, limited, total)
	for what, seen := range f.faults {
		t.Errorf("%s, %d times:\n%s", what, seen.count, strings.Join(seen.some, "\n"))
	}
	require.NotZero(t, f.answers["method return"], "nothing got through")
	require.Less(t, limited, total*9/10+1, "hardly anything got past the limits, so hardly anything was tried")
}
