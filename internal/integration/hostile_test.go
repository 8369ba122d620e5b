//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/rawbus"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/policy"
)

// hostileVariable says how long the hostile user attacks, in place of ten seconds.
const hostileVariable = "DUBNIUM_HOSTILE"

// The marks that hold while one user does their worst.
const (
	markStatus  = 100 * time.Millisecond // modectl status, 99 of 100
	markHistory = time.Second            // modectl history, each
	markPeak    = 64 << 10               // KiB, the most that is ever resident
	markLeft    = 2 << 10                // KiB, more than before once it is over
	markLog     = 16 << 10               // bytes of log a second
	markState   = 64 << 10               // bytes more in the state directory, and
	markStateBy = 4 << 10                // as many each second
)

// Some users hold all the inhibitors that users may. Root's own is none of those.
func TestUsersWhoHoldAllInhibitorsDoNotKeepRootFromOne(t *testing.T) {
	t.Parallel()
	require.Zero(t, os.Geteuid(), "only root can be several users")
	w := start(t, testhost.Options{}, nil)
	held := 0
	const tries = 100 // of each, which is more than anybody may hold
	for n := range strangers {
		conn, err := rawbus.Dial(w.Address(), strangerOf(n))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		for range tries {
			r, err := conn.Ask(
				method("Inhibit", rawbus.String("compute"), rawbus.String("x"), rawbus.String("y"), rawbus.String("delay")),
			)
			require.NoError(t, err)
			if r.Type == rawbus.Error {
				break
			}
			held++
		}
	}
	t.Logf("%d users hold %d inhibitors", strangers, held)
	require.Greater(t, held, 0)
	require.Less(t, held, strangers*tries)
	require.Zero(
		t, run(t, w.ModectlCommand(bounded(t), "inhibit", "--who", "root", "--why", "a snapshot", "--", "true")).code,
	)
}

// No connection of the daemon's is one that takes descriptors, whatever the bus policy
// lets by: the bus answers for it.
func TestNoConnectionTakesDescriptors(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	conn, err := rawbus.Dial(w.Address(), rawbus.Self)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	connections := connectionsOf(t, hosttest.Connect(t, w.Host), w)
	require.Len(t, connections, 3)
	for _, to := range connections {
		call := rawbus.NewCall(to, string(busapi.Path), busapi.PeerInterface, "Ping")
		require.NoError(t, conn.SendDescriptors(call, int(null.Fd())))
		var r rawbus.Received
		for !r.Answers(call.Serial) {
			r, err = conn.Read()
			require.NoError(t, err)
		}
		require.Equal(t, "org.freedesktop.DBus.Error.NotSupported", r.ErrorName, r.Text)
	}
}

// An unprivileged user does all that a user can do to the daemon over the bus, within
// the bounds of attacks, which say what the load is. Meanwhile root asks how things
// are, and changes the mode in the middle of it.
func TestAHostileUserHarmsNobody(t *testing.T) {
	require.Zero(t, os.Geteuid(), "only root can be two users")
	long := durationOf(t, hostileVariable, 10*time.Second)
	log := &logTail{}
	w := startFor(lasting(t, long), t, embedded.Options{Log: log, Host: testhost.Options{
		PolicyDirs: installedPolicy(t), Authorize: thoughtfulPolkit(
			"org.dubnium.mode1.request-studio-local", "org.dubnium.mode1.inhibit-delay",
		),
	}})
	for _, mode := range []policy.Mode{policy.StudioLocal, policy.Desktop, policy.StudioLocal} {
		reach(t, w, mode)
	}
	s := &siege{t: t, w: w, log: log, took: map[string][]span{}}
	s.before = s.take()

	h := &hostile{
		address: w.Address(), targets: connectionsOf(t, hosttest.Connect(t, w.Host), w),
		sent: map[string]int{}, came: map[string]map[string]int{}, bodies: map[string][]byte{},
	}
	for _, signature := range hugeSignatures { // made before anything is measured
		h.bodies[signature] = hugeBody(signature)
	}
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	h.null = int(null.Fd())
	s.run(h, long)
	s.judge(h, long)
}

// thoughtfulPolkit grants these actions, and has a person think about the password
// for any other, who then says no.
func thoughtfulPolkit(granted ...string) testhost.Authorize {
	grants := answersByAction(granted...)
	return func(ctx context.Context, r testhost.PolkitRequest) testhost.PolkitAnswer {
		answer := grants(ctx, r)
		const interactive = 1
		if answer.Authorized || r.Flags&interactive == 0 {
			answer.Challenge = !answer.Authorized
			return answer
		}
		pause(ctx, 10*time.Second)
		return answer
	}
}

// standing is what has to be the same afterwards.
type standing struct {
	resident, descriptors int
	state                 int64 // bytes in the state directory
	log                   int
	outcomes              map[float64]object
}

// What root does again and again.
const (
	bareBus     = "a call to the bus from a new connection"
	bareProgram = "modectl --version, which asks nobody"
	rootStatus  = "modectl status"
	rootHistory = "modectl history"
	rootRefresh = "modectl current --refresh"
)

// siege is the time of the attack, as root sees it.
type siege struct {
	t      *testing.T
	w      *embedded.Workstation
	log    *logTail
	before standing

	mu     sync.Mutex
	took   map[string][]span // by what root did
	stalls []span            // when the bus itself did not answer
	odd    []string          // what root was told that is not so
	busy   int               // how often root's request was refused
	dead   bool              // the daemon has ended
}

// take notes how the daemon stands after some looks at the host: what they need comes
// and goes.
func (s *siege) take() standing {
	s.t.Helper()
	for range 20 {
		require.NoError(s.t, s.refresh(bounded(s.t)))
	}
	return standing{
		resident: resident(s.t, s.w), descriptors: openFiles(s.t, s.w.DaemonPID()), state: sizeOf(s.t, s.w.Policy.Paths.State),
		log: s.log.written(), outcomes: s.outcomes(),
	}
}

// outcomes are the transitions on record, by their ids.
func (s *siege) outcomes() map[float64]object {
	s.t.Helper()
	out, errs, code, err := s.w.Modectl(bounded(s.t), "history", "--json", "--limit", "1000")
	require.NoError(s.t, err)
	require.Zero(s.t, code, errs)
	all := map[float64]object{}
	for _, record := range jsonLines(s.t, out) {
		all[record.(object)["id"].(float64)] = record.(object)
	}
	return all
}

func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && entry.Type().IsRegular() {
			size += info.Size()
		}
		return err
	}))
	return size
}

// run lets the user attack while root works, until the time is over or the daemon is.
func (s *siege) run(h *hostile, long time.Duration) {
	ctx, over := context.WithTimeout(s.t.Context(), long)
	defer over()
	var all sync.WaitGroup
	all.Go(func() {
		if code, err := s.w.AwaitDaemonExit(ctx); err == nil {
			s.oddity("the daemon ended with code %d: %s", code, s.log.lastWords())
			s.mu.Lock()
			s.dead = true
			s.mu.Unlock()
			over()
		}
	})
	all.Go(func() { h.run(ctx) })
	for _, work := range []struct {
		every time.Duration
		what  string
		do    func(context.Context) error
	}{
		{100 * time.Millisecond, bareBus, s.callBus},
		{100 * time.Millisecond, bareProgram, s.command("--version")},
		{100 * time.Millisecond, rootStatus, s.status},
		{2 * time.Second, rootHistory, s.command("history")},
		{3 * time.Second, rootRefresh, s.refresh},
	} {
		all.Go(func() { s.repeat(ctx, work.every, work.what, work.do) })
	}
	all.Go(func() { s.watchBus(ctx) })
	all.Go(func() {
		pause(ctx, long/2)
		s.request(ctx)
	})
	all.Wait()
	if err := syscall.Kill(s.w.DaemonPID(), 0); err != nil && !s.dead {
		s.oddity("the daemon ended: %s", s.log.lastWords())
		s.dead = true
	}
}

func (s *siege) oddity(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dead { // what follows from that is not odd
		s.odd = append(s.odd, fmt.Sprintf(format, args...))
	}
}

// repeat measures what root does again and again. What was begun is ended.
func (s *siege) repeat(ctx context.Context, every time.Duration, what string, do func(context.Context) error) {
	for ctx.Err() == nil {
		lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		began := time.Now()
		err := do(lasting)
		took := span{began, time.Now()}
		cancel()
		if err != nil {
			s.oddity("%s, after %s: %v", what, took.long().Round(time.Millisecond), err)
		}
		s.mu.Lock()
		s.took[what] = append(s.took[what], took)
		s.mu.Unlock()
		pause(ctx, every)
	}
}

func (s *siege) callBus(ctx context.Context) error {
	conn, err := rawbus.Dial(s.w.Address(), rawbus.Self)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Ask(rawbus.NewCall(rawbus.BusName, rawbus.BusPath, rawbus.BusName, "GetId"))
	return err
}

// modectl runs it as root; one that fails is an error.
func (s *siege) modectl(ctx context.Context, args ...string) (string, error) {
	out, errs, code, err := embedded.Run(s.w.ModectlCommand(ctx, args...))
	if err == nil && code != 0 {
		err = fmt.Errorf("exit %d: %.300s%.300s", code, out, errs)
	}
	return out, err
}

func (s *siege) command(args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := s.modectl(ctx, args...)
		return err
	}
}

// status asks, and requires that the answer is so: the overlay is there until root's
// transition, which leads to compute, and never is anything in doubt.
func (s *siege) status(ctx context.Context) error {
	out, err := s.modectl(ctx, "status", "--json")
	if err != nil {
		return err
	}
	var told struct {
		Observed struct {
			State      string `json:"observed_state"`
			Confidence string `json:"confidence"`
		} `json:"observed"`
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		return err
	}
	switch told.Observed.State {
	case "transitioning":
	case string(policy.StudioLocal), string(policy.Compute):
		if told.Observed.Confidence != "high" {
			return fmt.Errorf("the confidence in %s is %s", told.Observed.State, told.Observed.Confidence)
		}
	default:
		return fmt.Errorf("the observed state is %s", told.Observed.State)
	}
	return nil
}

func (s *siege) refresh(ctx context.Context) error {
	out, err := s.modectl(ctx, "current", "--refresh")
	if err != nil {
		return err
	}
	switch word := strings.TrimSpace(out); word {
	case "transitioning", string(policy.StudioLocal), string(policy.Compute):
		return nil
	default:
		return fmt.Errorf("the observed state is %s", word)
	}
}

// request is root's transition. When the user has a request of their own under way at
// that moment, root asks again once. The user's delay inhibitors may hold it for the 30 s
// of the policy, before it does anything.
func (s *siege) request(ctx context.Context) {
	const busy = 42
	lasting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*patience)
	defer cancel()
	for range 2 {
		out, errs, code, err := embedded.Run(s.w.ModectlCommand(lasting, "request", "compute"))
		switch {
		case err == nil && code == busy && s.busy == 0:
			s.busy++
			continue
		case err != nil || code != 0:
			s.oddity("root's request: %v, exit %d: %.300s%.300s", err, code, out, errs)
		}
		return
	}
}
