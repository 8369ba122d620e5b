//go:build e2e && soak

package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer/unitgraph"
)

// unitNow is one unit of the machine: its run tells whether it was stopped and
// started again.
type unitNow struct{ state, run string }

func (u unitNow) up() bool { return u.state != "" && u.state != "inactive" && u.state != "failed" }

// settled waits until systemd has nothing to do, and reads every unit; the runs of
// those that the patterns name, since reading them takes a slow machine long.
func (w *workstation) settled(patterns string) map[string]unitNow {
	w.t.Helper()
	w.WaitFor(w.ctx, "no jobs", `[ -z "$(systemctl list-jobs --no-legend --plain)" ]`)
	units := map[string]unitNow{}
	for line := range strings.Lines(w.sh("systemctl list-units --all --no-legend --plain")) {
		if fields := strings.Fields(line); len(fields) > 3 {
			units[fields[0]] = unitNow{state: fields[2]}
		}
	}
	for _, block := range strings.Split(w.sh("systemctl show -p Id -p ActiveState -p InvocationID -- "+patterns), "\n\n") {
		values := map[string]string{}
		for line := range strings.Lines(block) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			values[key] = value
		}
		units[values["Id"]] = unitNow{values["ActiveState"], values["InvocationID"]}
	}
	return units
}

func (w *workstation) impact(target string) unitgraph.IsolateImpact {
	w.t.Helper()
	started := time.Now()
	var i unitgraph.IsolateImpact
	require.NoError(w.t, json.Unmarshal([]byte(w.sh("/usr/libexec/dubnium/dubniumd impact --json "+target)), &i))
	w.t.Logf("impact of %s: %d stop, %d start, refused %q, told in %.2f s",
		target, len(i.Stops), len(i.Starts), i.Refused, time.Since(started).Seconds())
	return i
}

// onItsOwn are units that end by themselves, or begin, while nobody asks.
func onItsOwn(unit string) bool {
	prefixes := []string{"session-", "user@", "user-runtime-dir@", "dubnium-probe-", "modprobe@"}
	kinds := []string{".device", ".slice", ".mount", ".swap"}
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(unit, prefix) }) ||
		slices.ContainsFunc(kinds, func(kind string) bool { return strings.HasSuffix(unit, kind) })
}

// falseAlarms counts what was foretold, and what of that systemd did not do.
type falseAlarms struct{ stops, wrongStops, starts, wrongStarts, refusals, wrongRefusals int }

// isolate foretells, isolates, and compares: what systemd stops and refuses must have been foretold, since the
// impact is that of the worst case. It counts what was foretold and did not happen.
func (w *workstation) isolate(target, patterns string, alarms *falseAlarms) {
	w.t.Helper()
	before := w.settled(patterns)
	i := w.impact(target)
	out, code := w.Sh(w.ctx, "systemctl --no-block isolate "+target)
	if i.Refused != "" {
		alarms.refusals++
		if code == 0 {
			w.t.Logf("%s was isolated although a refusal was foretold: %s", target, i.Refused)
			alarms.wrongRefusals++
			w.settled(patterns)
		}
		return
	}
	if !assert.Zero(w.t, code, "refused unforeseen: %s", out) {
		return
	}
	after := w.settled(patterns)
	foretold := map[string]bool{}
	for _, c := range i.Stops {
		foretold[c.Unit] = true
		if onItsOwn(c.Unit) {
			continue
		}
		alarms.stops++
		if now := after[c.Unit]; now.up() && now.run == before[c.Unit].run {
			w.t.Logf("%s was to stop (%s by %s) and did not", c.Unit, c.Cause, c.By)
			alarms.wrongStops++
		}
	}
	for unit, was := range before {
		if now := after[unit]; was.up() && !onItsOwn(unit) && (!now.up() || now.run != was.run) {
			assert.True(w.t, foretold[unit], "%s stopped unforetold: %v, then %v", unit, was, now)
		}
	}
	for _, s := range i.Starts {
		// The condition of another unit may not hold, or it is done and forgotten already.
		if !strings.HasSuffix(s.Unit, ".target") || generatedMember(s.Unit) {
			continue
		}
		alarms.starts++
		if now := after[s.Unit]; !now.up() && now.run == before[s.Unit].run {
			w.t.Logf("%s was to start and did not", s.Unit)
			alarms.wrongStarts++
		}
	}
}

// TestImpactOfTheModesTargets: with all kinds of extra units running, isolate
// does what was foretold, in both directions.
func TestImpactOfTheModesTargets(t *testing.T) {
	w := onDesktop(t)
	w.patiently()
	w.sh(`systemd-run -q --unit=extra.service sleep infinity
		systemd-run -q --unit=extra-timer --on-active=1h true
		systemd-run -q --unit=extra-socket --socket-property=ListenStream=/run/extra.sock true
		systemd-run -q --unit=spared.service -p IgnoreOnIsolate=yes sleep infinity
		systemd-run -q --unit=dragged.service -p IgnoreOnIsolate=yes -p BindsTo=extra.service sleep infinity`)
	scope := w.Start(w.ctx, "exec systemd-run -q --scope --unit=extra-scope sleep infinity")
	defer func() { _ = scope.Kill(w.ctx) }()
	w.WaitUnit(w.ctx, "extra-scope.scope", "active")
	i := w.impact("compute.target")
	for unit, stops := range map[string]bool{
		"extra.service": true, "extra-timer.timer": true, "extra-socket.socket": true, "dragged.service": true,
		"spared.service": false, "extra-scope.scope": false, "dubniumd.service": false,
	} {
		assert.Equal(t, stops, i.StopsUnit(unit), unit)
	}
	var alarms falseAlarms
	for _, target := range []string{"compute.target", "desktop.target"} {
		w.isolate(target, "'*.service' '*.socket' '*.timer' '*.path' '*.target'", &alarms)
	}
	// Releases before v257.13 let a unit stay whose trigger they happened to stop before.
	assert.LessOrEqual(t, alarms.wrongStops*10, alarms.stops, "%+v", alarms)
	assert.Zero(t, alarms.wrongStarts+alarms.refusals, "%+v", alarms)
}

const graphs = 20

// masked is a unit that nobody may start; alias names the first unit of a graph.
const masked = "graph-masked.service"

func alias(n int) string { return fmt.Sprintf("graph%d-alias.service", n) }

// generatedMember: what a random graph's target wants may fail to start.
func generatedMember(unit string) bool {
	return strings.HasPrefix(unit, "graph") && strings.Contains(unit, "-")
}

// TestImpactOfRandomGraphs: units that depend on each other in every way there
// is, and systemd's own word on what isolating one of them does.
func TestImpactOfRandomGraphs(t *testing.T) {
	w := restore(t)
	w.patiently()
	seed := seeded(t)
	random := rand.New(rand.NewPCG(seed, 0))
	var write strings.Builder
	var starts []string
	for n := range graphs {
		files, start := graph(n, random)
		for name, text := range files {
			fmt.Fprintf(&write, "cat >/run/systemd/system/%s <<'EOF'\n%sEOF\n", name, text)
		}
		fmt.Fprintf(&write, "ln -sf graph%d-0.service /run/systemd/system/%s\n", n, alias(n))
		starts = append(starts, start)
	}
	fmt.Fprintf(&write, "ln -sf /dev/null /run/systemd/system/%s\n", masked)
	w.PutBytes(w.ctx, []byte(write.String()), "/run/graphs.sh", 0o755)
	w.sh("mkdir -p /run/systemd/system; sh /run/graphs.sh; systemctl daemon-reload; systemctl start desktop.target")
	var alarms falseAlarms
	for n, start := range starts {
		w.Sh(w.ctx, "systemctl start "+start) // some conflict, some cannot
		w.isolate(fmt.Sprintf("graph%d.target", n), "'graph*'", &alarms)
		if t.Failed() {
			w.t.Logf("graph %d of seed %d:\n%s", n, seed, w.sh(fmt.Sprintf(`cd /run/systemd/system
				grep -v '^$' graph%[1]d[.-]* graph%[2]d[.-]*
				systemctl list-units --all --no-legend --plain 'graph*'; systemctl list-jobs --no-legend --plain
				journalctl -b --no-pager -o cat _PID=1 | grep 'graph' | tail -n 60 || true`, n, max(0, n-1))))
			return
		}
	}
	t.Logf("false alarms: %+v", alarms)
	assert.LessOrEqual(t, alarms.wrongStops*3, alarms.stops)
	assert.LessOrEqual(t, alarms.wrongStarts*5, alarms.starts)
	assert.LessOrEqual(t, alarms.wrongRefusals, 1)
}

// oneshot is a service that is up once it was started, and needs nothing for it.
const oneshot = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n"

// graph makes the files of one graph, and says what to start of it. Beside its own
// units these may name one that is not there, one that is masked, an instance of a
// template, and one by its alias. Some uphold a unit that can always be started and that
// nothing conflicts with: systemd tries for ever to start what cannot be, and never settles.
func graph(n int, random *rand.Rand) (files map[string]string, start string) {
	kinds := []string{"service", "service", "service", "socket", "timer", "target"}
	own := []string{fmt.Sprintf("graph%d-0.service", n)}
	for i := range 5 + random.IntN(8) {
		own = append(own, fmt.Sprintf("graph%d-%d.%s", n, i+1, kinds[random.IntN(len(kinds))]))
	}
	always, instance := fmt.Sprintf("graph%d-always.service", n), fmt.Sprintf("graph%d-of@one.service", n)
	names := slices.Concat([]string{"gone.service", masked, instance, alias(n)}, own)
	files = map[string]string{
		always:                                "[Unit]\n" + oneshot,
		fmt.Sprintf("graph%d-of@.service", n): "[Unit]\n" + relations(names, random, 2) + oneshot,
	}
	for _, name := range own {
		files[name] = unitFile(name, names, random)
		if random.IntN(6) == 0 {
			files[name] = strings.Replace(files[name], "[Unit]\n", "[Unit]\nUpholds="+always+"\n", 1)
		}
	}
	// What is not ours stays: the target wants all of the desktop.
	files[fmt.Sprintf("graph%d.target", n)] = "[Unit]\nAllowIsolate=yes\nWants=desktop.target\nDefaultDependencies=no\n" +
		relations(names, random, 4)
	running := slices.DeleteFunc(append(own, always, instance), func(string) bool { return random.IntN(4) == 0 })
	return files, strings.Join(running, " ")
}

func unitFile(name string, names []string, random *rand.Rand) string {
	text := "[Unit]\n" + relations(names, random, 3)
	if random.IntN(4) == 0 {
		text += "IgnoreOnIsolate=yes\n"
	}
	if random.IntN(8) == 0 {
		text += "StopWhenUnneeded=yes\n"
	}
	service := func() string {
		for {
			if other := names[random.IntN(len(names))]; strings.HasSuffix(other, ".service") {
				return other
			}
		}
	}
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "service":
		return text + oneshot
	case "socket":
		return text + "[Socket]\nListenStream=/run/" + name + "\nService=" + service() + "\n"
	case "timer":
		return text + "[Timer]\nOnActiveSec=1h\nUnit=" + service() + "\n"
	}
	return text + "DefaultDependencies=no\n" // a target orders itself after all it wants: that would make cycles
}

func relations(names []string, random *rand.Rand, most int) string {
	kinds := []string{"Requires", "Wants", "Wants", "BindsTo", "PartOf", "Requisite", "Conflicts", "PropagatesStopTo"}
	var text strings.Builder
	for range random.IntN(most + 1) {
		fmt.Fprintf(&text, "%s=%s\n", kinds[random.IntN(len(kinds))], names[random.IntN(len(names))])
	}
	return text.String()
}
