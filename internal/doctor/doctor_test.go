package doctor

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const gpu = "0000:01:00.0"

func root(path string) Path { return Path{Path: path, Mode: fs.ModeDir | 0o755} }

// healthy is a host with everything, where nothing is to be said.
func healthy() Facts {
	p := policy.Default()
	p.Transitions = policy.TrustAll
	p.GPU.Display = []string{gpu}
	p.VLLM.Profiles = map[string]policy.Profile{"default": {Unit: "vllm.service"}, "fast": {Unit: "vllm-fast.service"}}
	p.MustSurvive = []string{"sshd.service"}
	p.Sessions.EndHook = []string{"uwsm", "stop"}
	f := Facts{
		Now: now, Version: "1.2.3", Driver: "NVRM version: 570.1",
		Manager: Manager{Version: "257.8-1~deb13u2", DefaultTarget: "desktop.target"}, Units: map[string]Unit{},
		Daemon: Daemon{Owned: true, Process: "dubniumd", Version: "1.2.3", LastFinished: now.Add(-time.Hour)},
		Polkit: Polkit{Actions: append(Actions(), "org.freedesktop.udisks2.eject")},
		Policy: Policy{
			Policy: p, InForce: true, File: "/etc/dubnium/policy.toml", Chosen: []string{"gpu.permitted_holders", "units.k3s"},
		},
		Paths: []Path{
			{
				Path: "/var/lib/mode-controller", Mode: fs.ModeDir | 0o750,
				Above: []Path{root("/"), root("/var"), root("/var/lib")},
			},
			{Path: "/tmp/ours", Mode: 0o640, Above: []Path{root("/"), {Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777}}},
			{Path: "/var/lib/mode-controller/events.jsonl", Missing: true, Optional: true},
		},
		Clock: Clock{Synchronized: true, Boot: now.Add(-24 * time.Hour)},
	}
	for _, name := range Units(p) {
		f.Units[name] = Unit{
			LoadState: "loaded", ActiveState: "active", FileState: "enabled", IgnoreOnIsolate: true, AllowIsolate: true,
		}
	}
	read, room := observer.Reading{At: now}, float64(1<<40)
	f.Evidence = observer.Snapshot{
		Systemd: observer.Systemd{Reading: read}, Logind: observer.Logind{Reading: read},
		Procfs:    observer.Procfs{Reading: read},
		Inference: observer.Inference{Reading: read},
		Processes: observer.ProcessScan{
			Reading: read, GPUs: []observer.GPU{{PCI: gpu, Display: true}},
			Directories: []observer.Directory{{Path: "/var/lib/mode-controller", Free: observer.Measure{Value: &room}}},
		},
		GPU:   observer.NVML{Reading: read, Driver: true, Cards: []observer.Card{{PCI: gpu, Name: "RTX"}}},
		Audio: observer.Audio{Reading: read, Servers: []observer.AudioServer{{Reading: read, UID: 1000, Running: true}}},
	}
	return f
}

func unwell(r Report) Report {
	return slices.DeleteFunc(slices.Clone(r), func(l Line) bool { return l.Verdict == OK })
}

func TestAHealthyHostIsAllOK(t *testing.T) {
	report := Examine(healthy())
	require.Empty(t, unwell(report))
	for _, check := range Checks() {
		assert.True(
			t, slices.ContainsFunc(report, func(l Line) bool { return l.Check == check }), "%s says that it is fine", check,
		)
	}
}

// change returns a change of one unit.
func change(name string, do func(*Unit)) func(*Facts) {
	return func(f *Facts) {
		u := f.Units[name]
		do(&u)
		f.Units[name] = u
	}
}

func gone(name string) func(*Facts) {
	return change(name, func(u *Unit) { *u = Unit{LoadState: "not-found", ActiveState: "inactive"} })
}

// instance has compute run in an instance of a template, and no vllm.service: nobody
// needs that then.
func instance(there bool) func(*Facts) {
	return func(f *Facts) {
		f.Policy.VLLM.Profiles["big"] = policy.Profile{Unit: "vllm@big.service"}
		f.Policy.Modes.Compute.VLLMProfile = "big"
		f.Units["vllm@big.service"] = f.Units["vllm.service"]
		gone("vllm.service")(f)
		if !there {
			gone("vllm@big.service")(f)
		}
	}
}

func TestAnInstanceTakesThePlaceOfTheUnit(t *testing.T) {
	f := healthy()
	instance(true)(&f)
	require.Empty(t, unwell(Examine(f)))
}

// TestEachThingThatIsWrongNamesItself: one thing is wrong, one line says so, with
// its verdict and what to do; and nothing else is said.
func TestEachThingThatIsWrongNamesItself(t *testing.T) {
	little := float64(1 << 20)
	cases := map[string]struct {
		breaks  func(*Facts)
		verdict Verdict
		line    string // check, text
		remedy  string
	}{
		"name of another user": {
			func(f *Facts) { f.Daemon.UID = 1000 }, Failure, "bus: the name org.dubnium.Mode1 is owned by uid 1000",
			"bus policy",
		},
		"another program": {
			func(f *Facts) { f.Daemon.Process = "evil" }, Failure, `bus: the name org.dubnium.Mode1 is owned by "evil"`,
			"busctl",
		},
		"a program unseen": {
			func(f *Facts) { f.Daemon.Process = "" }, Unseen, "bus: cannot read which program owns", "as root",
		},
		"a warning": {
			func(f *Facts) { f.Daemon.Warnings = []observer.Reason{{Code: "history-not-written", Text: "full"}} }, Warning,
			"bus: dubniumd warns: history-not-written: full", "df",
		},
		"masked": {
			change(holdersSocket, func(u *Unit) { u.LoadState = "masked" }), Failure,
			"units: dubnium-probe-holders.socket is masked", "systemctl unmask dubnium-probe-holders.socket",
		},
		"not installed": {
			gone(audioProbe), Failure, "units: dubnium-probe-audio@0.service is not installed", "make install",
		},
		"no unit for the hook": {
			gone(sessionEnd), Failure, "units: dubnium-session-end@0.service is not installed", "make install",
		},
		"no instance": {
			instance(false), Failure, "policy: the policy names vllm@big.service (vllm.profiles.big)", "install it",
		},
		"bad file": {
			change("compute.target", func(u *Unit) { u.LoadState = "bad-setting" }), Failure,
			"units: compute.target is not usable: its load state is bad-setting", "systemctl status",
		},
		"unread": {
			change("compute.target", func(u *Unit) { u.Err = "timeout" }), Unseen,
			"units: cannot read compute.target: timeout", "systemctl status",
		},
		"file changed": {
			change(daemonUnit, func(u *Unit) { u.NeedReload = true }), Warning,
			"units: the file of dubniumd.service has changed",
			"daemon-reload",
		},
		"not spared": {
			change(gpuProbe, func(u *Unit) { u.IgnoreOnIsolate = false }), Failure,
			"units: a transition would stop dubnium-probe-gpu.service", "IgnoreOnIsolate=no",
		},
		"not to be isolated": {
			change("desktop.target", func(u *Unit) { u.AllowIsolate = false }), Failure,
			"units: desktop.target cannot be isolated", "AllowIsolate=no",
		},
		"does not listen": {
			change(vllmSocket, func(u *Unit) { u.ActiveState = "failed" }), Failure,
			"units: dubnium-probe-inference.socket is failed", "enable --now",
		},
		"not enabled": {
			change(daemonUnit, func(u *Unit) { u.FileState = "disabled" }), Warning,
			"units: dubniumd.service is active, but will not start at the next boot", "systemctl enable",
		},
		"boots elsewhere": {
			func(f *Facts) { f.Manager.DefaultTarget = "graphical.target" }, Warning,
			"units: the machine boots to graphical.target", "set-default desktop.target",
		},
		"polkit is away": {
			func(f *Facts) { f.Polkit = Polkit{Err: "no such name"} }, Failure, "polkit: polkit does not answer: no such name",
			"systemctl status polkit",
		},
		"an action is missing": {
			func(f *Facts) { f.Polkit.Actions = Actions()[1:] }, Failure,
			"polkit: actions unknown to polkit: org.dubnium.mode1.request-desktop", "org.dubnium.mode1.policy",
		},
		"a file that is broken": {
			func(f *Facts) { f.Policy.FileErrs = []string{"policy.toml:1:1: unknown key"} }, Failure,
			"policy: policy.toml:1:1: unknown key", "modectl policy check",
		},
		"a file unread": {
			func(f *Facts) { f.Policy.Unread = "permission denied" }, Unseen,
			"policy: cannot read the policy file: permission denied", "as root",
		},
		"a file not in force": {
			func(f *Facts) { f.Policy.Pending = []string{"transitions"} }, Warning,
			"policy: values of /etc/dubnium/policy.toml are not in force: transitions", "systemctl reload",
		},
		"no display manager": {
			gone("display-manager.service"), Failure, "policy: the policy names display-manager.service (units.display_manager)",
			"name another",
		},
		"no vLLM": {
			gone("vllm.service"), Failure, "policy: the policy names vllm.service", "vllm.profiles.default",
		},
		"no profile": {
			gone("vllm-fast.service"), Failure, "policy: the policy names vllm-fast.service (vllm.profiles.fast)", "install it",
		},
		"no k3s": {gone("k3s.service"), Warning, "policy: the policy names k3s.service", "units.k3s"},
		"none to survive": {
			gone("sshd.service"), Warning, "policy: the policy names sshd.service (must_survive)", "must_survive",
		},
		"no permitted holder": {
			gone("nvidia-persistenced.service"), Warning, "policy: the policy names nvidia-persistenced.service",
			"gpu.permitted_holders",
		},
		"no directory": {
			func(f *Facts) { f.Paths[0].Missing = true }, Failure, "paths: /var/lib/mode-controller does not exist",
			"systemctl start",
		},
		"alice's directory": {
			func(f *Facts) { f.Paths[0].UID = 1000 }, Failure,
			"paths: users other than root can change /var/lib/mode-controller",
			"chown root",
		},
		"a directory for all": {
			func(f *Facts) { f.Paths[0].Mode = fs.ModeDir | 0o777 }, Failure,
			"paths: users other than root can change /var/lib/mode-controller", "chmod go-w",
		},
		"a way through alice's": {
			func(f *Facts) { f.Paths[0].Above[1].UID = 1000 }, Failure, "paths: users other than root can change /var",
			"chown root /var ",
		},
		"a way through a group": {
			func(f *Facts) { f.Paths[0].Above[2].Mode = fs.ModeDir | 0o775 }, Failure,
			"paths: users other than root can change /var/lib", "chmod go-w /var/lib",
		},
		"a path unseen by root": {
			func(f *Facts) { f.Paths[0].Err = "I/O error" }, Failure, "paths: cannot read /var/lib/mode-controller",
			"ls -ld",
		},
		"a path unseen": {
			func(f *Facts) { f.UID, f.Paths[0].Err = 1000, "permission denied" }, Unseen,
			"paths: cannot read /var/lib/mode-controller", "as root",
		},
		"a full disk": {
			func(f *Facts) { f.Evidence.Processes.Directories[0].Free.Value = &little }, Failure,
			"paths: /var/lib/mode-controller has 1 MiB free, the policy requires 32", "free space",
		},
		"a read-only disk": {
			func(f *Facts) { f.Evidence.Processes.Directories[0].Fault = "it is read-only" }, Failure,
			"paths: /var/lib/mode-controller is not usable: it is read-only", "mount",
		},
		"a disk unknown": {
			func(f *Facts) { f.Evidence.Processes.Directories[0] = observer.Directory{Path: "/x", Reason: "EIO"} }, Warning,
			"paths: the free space in /x is unknown: EIO", "df /x",
		},
		"a probe is away": {
			func(f *Facts) { f.Evidence.Inference.Reason = "refused" }, Failure,
			"probes: the inference probe has no data: refused", "dubnium-probe-inference.socket",
		},
		"a source not asked": {
			func(f *Facts) { f.Evidence.Logind.Reading = observer.Reading{} }, Failure,
			"probes: logind has no data: not read yet", "systemd-logind",
		},
		"the GPU probe is away": {
			func(f *Facts) { f.Evidence.GPU = observer.NVML{Reading: observer.Reading{At: now, Reason: "busy"}} }, Failure,
			"probes: the GPU probe has no data", "dubnium-probe-gpu.socket",
		},
		"a GPU is missing": {
			func(f *Facts) { f.Policy.GPU.AI = []string{"0000:41:00.0"} }, Failure,
			"gpu: the policy names the GPU 0000:41:00.0, but the host has no GPU", "lspci",
		},
		"a GPU is given away": {func(f *Facts) {
			f.Evidence.Processes.GPUs[0].Hidden, f.Evidence.Processes.GPUs[0].Driver = true, "vfio-pci"
		}, Failure, "gpu: the GPU 0000:01:00.0 has no driver", "lspci -k"},
		"no GPU at all": {
			func(f *Facts) { f.Policy.GPU.Display, f.Evidence.Processes.GPUs = nil, nil }, Warning,
			"gpu: no GPU found", "lspci",
		},
		"NVML sees no driver": {
			func(f *Facts) { f.Evidence.GPU = observer.NVML{Reading: observer.Reading{At: now}} }, Failure,
			"gpu: the kernel has the NVIDIA driver (NVRM version: 570.1), but the GPU probe cannot use it", "libnvidia-ml",
		},
		"a card is lost": {
			func(f *Facts) { f.Evidence.GPU.Cards[0].Reason = "GPU is lost" }, Failure,
			"gpu: NVML cannot read a card: 0000:01:00.0 GPU is lost", "nvidia-smi",
		},
		"audio unseen": {
			func(f *Facts) { f.Evidence.Audio.Servers[0].Reason = "no answer" }, Failure,
			"audio: cannot read the audio server of uid 1000: no answer", "dubnium-probe-audio@1000",
		},
		"no audio server": {
			func(f *Facts) { f.Evidence.Audio.Servers[0].Running = false }, Failure,
			"audio: uid 1000 has no running audio server", "pipewire-pulse",
		},
		"audio nobody needs": {func(f *Facts) {
			f.Policy.Audio.Required, f.Evidence.Audio.Servers[0].Reason = false, "no answer"
		}, Warning, "audio: cannot read the audio server of uid 1000", "systemctl status"},
		"not synchronized": {
			func(f *Facts) { f.Clock.Synchronized = false }, Warning, "clock: the clock is not synchronized", "set-ntp",
		},
		"a clock unseen": {
			func(f *Facts) { f.Clock = Clock{Err: "EPERM"} }, Unseen,
			"clock: cannot tell whether the clock is synchronized: EPERM", "timedatectl",
		},
		"a clock of 1970": {func(f *Facts) { f.Now = time.Unix(0, 0) }, Failure, "clock: the clock is wrong", "set-ntp"},
		"before its boot": {
			func(f *Facts) { f.Clock.Boot = now.Add(time.Hour) }, Failure,
			"clock: the clock is wrong: 2026-11-22 12:00:00 is before the boot at", "set-ntp",
		},
		"a clock set back": {
			func(f *Facts) { f.Daemon.LastFinished = now.Add(time.Hour) }, Warning, "clock: the clock was set back", "set-ntp",
		},
		"two versions": {
			func(f *Facts) { f.Daemon.Version = "1.2.2" }, Warning, "versions: modectl is 1.2.3, dubniumd is 1.2.2", "restart",
		},
		"an old systemd": {
			func(f *Facts) { f.Manager.Version = "v252.1" }, Failure, "versions: systemd is v252.1, at least 253 is required",
			"newer",
		},
		"a strange systemd": {
			func(f *Facts) { f.Manager.Version = "sauna" }, Warning, "versions: \"sauna\" is not a version of systemd",
			"systemctl --version",
		},
		"the least systemd":  {func(f *Facts) { f.Manager.Version = "253" }, OK, "", ""},
		"nobody at a screen": {func(f *Facts) { f.Evidence.Audio.Servers = nil }, OK, "", ""},
		"no NVIDIA driver": {func(f *Facts) {
			f.Driver, f.Evidence.GPU = "", observer.NVML{Reading: observer.Reading{At: now, Reason: "no socket"}}
			gone(gpuSocket)(f)
		}, OK, "", ""},
		"a default that is not there": {
			func(f *Facts) { f.Policy.Chosen = nil; gone("k3s.service")(f); gone("nvidia-persistenced.service")(f) }, OK, "", "",
		},
		"no vLLM where none is wanted": {func(f *Facts) {
			f.Policy.VLLM.Enabled = false
			gone("vllm.service")(f)
			gone("vllm-fast.service")(f)
		}, OK, "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			c.breaks(&f)
			lines := unwell(Examine(f))
			if c.verdict == OK {
				require.Empty(t, lines)
				return
			}
			require.Len(t, lines, 1)
			l := lines[0]
			assert.Equal(t, c.verdict, l.Verdict)
			assert.Contains(t, l.Check+": "+l.Text, c.line)
			assert.Contains(t, l.Remedy+" ", c.remedy)
		})
	}
}

// released are releases that left so many MiB in use, with the ids from 1 on.
func released(mib ...uint64) (all []Release) {
	for i, n := range mib {
		all = append(all, Release{Transition: uint64(i + 1), InUse: []observer.GPUMemory{{GPU: gpu, Bytes: n << 20}}})
	}
	return all
}

// held has somebody hold the display GPU with so many MiB in use.
func held(f *Facts, mib float64) {
	bytes := mib * (1 << 20)
	f.Evidence.GPU.Cards[0].MemoryUsed = observer.Measure{Value: &bytes}
	f.Evidence.Processes.Holders = []observer.Holder{{GPU: gpu, PID: 7, Command: "sway", Unit: "session-2.scope"}}
}

func TestTheDoctorProposesAThresholdFromTheReleases(t *testing.T) {
	const last = "the last 5 releases of a display GPU left at most "
	ok := func(text string) Line { return Line{Verdict: OK, Text: text} }
	left := func(mib ...uint64) func(*Facts) { return func(f *Facts) { f.Releases = released(mib...) } }
	few := left(80, 80, 80, 80, 80)
	cases := map[string]struct {
		limit int
		facts func(*Facts)
		want  Line // of which text and remedy are contained; none: nothing is said
	}{
		"too few": {0, left(80, 80, 80, 80), Line{}},
		"none":    {160, func(*Facts) {}, Line{}},
		"a proposal": {
			0, left(80, 82, 80, 80, 80), ok(last + "82 MiB in use; to check that, set gpu.residual_mib = 160 in"),
		},
		"of nothing": {
			0, left(0, 0, 0, 0, 0), ok(last + "0 MiB in use; to check that, set gpu.residual_mib = 64 in"),
		},
		"of much":               {0, left(1000, 80, 80, 80, 80), ok("gpu.residual_mib = 1264 in")},
		"held with much in use": {0, func(f *Facts) { few(f); held(f, 900) }, ok("gpu.residual_mib = 144 in")},
		"held with less in use": {
			0, func(f *Facts) { few(f); held(f, 144) },
			ok("no gpu.residual_mib is proposed: " + gpu + " is held with 144 MiB in use"),
		},
		"within": {
			160, left(80, 160),
			ok("the last 2 releases of a display GPU left at most 160 MiB in use; gpu.residual_mib = 160 allows it"),
		},
		"exceeded": {160, left(80, 161, 900, 80), Line{
			Verdict: Warning,
			Text:    "2 of the last 4 releases of a display GPU left more than gpu.residual_mib = 160 in use, at most 900 MiB",
			Remedy:  "modectl show 3; if no process used the GPU then: gpu.residual_mib = 1136",
		}},
		"exceeded long ago": {
			160, left(append(make([]uint64, maxReleases), 900)...), ok("releases of a display GPU left at most 0 MiB"),
		},
		"another GPU's": {160, func(f *Facts) { left(900)(f); f.Releases[0].InUse[0].GPU = "0000:41:00.0" }, Line{}},
		"of two GPUs": {0, func(f *Facts) {
			few(f)
			f.Releases[2].InUse = append(f.Releases[2].InUse, observer.GPUMemory{GPU: "0000:41:00.0", Bytes: 900 << 20})
		}, ok(last + "80 MiB")},
		"unread": {0, func(f *Facts) { f.HistoryErr = "asked too often" }, Line{
			Verdict: Unseen, Text: "display GPUs is unknown: asked too often", Remedy: "again in a minute",
		}},
		"unread where none is judged": {
			0, func(f *Facts) { f.HistoryErr, f.Policy.GPU.Display = "asked too often", nil }, Line{},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			f.Policy.GPU.ResidualMiB = c.limit
			c.facts(&f)
			said := slices.DeleteFunc(Examine(f), func(l Line) bool {
				return !strings.Contains(l.Text, "residual_mib") && !strings.Contains(l.Text, "memory in use")
			})
			if c.want == (Line{}) {
				require.Empty(t, said)
				return
			}
			require.Len(t, said, 1)
			assert.Equal(t, "gpu", said[0].Check)
			assert.Equal(t, c.want.Verdict, said[0].Verdict)
			assert.Contains(t, said[0].Text, c.want.Text)
			assert.Contains(t, said[0].Remedy, c.want.Remedy)
		})
	}
}

// Without the bus, the daemon or a look there is much that cannot be seen, which is
// said; nothing that rests on it is taken for well.
func TestWhatCannotBeSeenIsNotWell(t *testing.T) {
	cases := map[string]struct {
		breaks         func(*Facts)
		failed, unseen []string // checks
	}{
		"no bus": {func(f *Facts) {
			f.BusErr, f.EvidenceErr, f.Units = "no such file", "no such file", nil
			f.Daemon, f.Policy.InForce = Daemon{Err: "no such file"}, false
		}, []string{"bus"}, []string{"units", "polkit", "probes", "gpu", "audio", "versions", "versions"}},
		"no daemon": {func(f *Facts) {
			f.Daemon, f.EvidenceErr, f.Policy.InForce = Daemon{Err: "dubniumd is not running"}, "dubniumd is not running", false
		}, []string{"bus"}, []string{"probes", "gpu", "audio", "versions"}},
		"a daemon that may not be called": {
			func(f *Facts) { f.Daemon.Err, f.EvidenceErr = "denied", "denied" },
			[]string{"bus"},
			[]string{"probes", "gpu", "audio", "versions"},
		},
		"no look": {
			func(f *Facts) { f.EvidenceErr = "asked too often" }, nil, []string{"probes", "gpu", "audio"},
		},
		"no systemd": {
			func(f *Facts) { f.Manager, f.Units = Manager{Err: "gone"}, nil }, []string{"units"}, []string{"versions"},
		},
		"no holders": {func(f *Facts) {
			f.Evidence.Processes = observer.ProcessScan{Reading: observer.Reading{At: now, Reason: "refused"}}
		}, []string{"probes"}, []string{"gpu"}},
		"no policy": {func(f *Facts) { f.Policy.Err = "unknown key" }, []string{"policy"}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			c.breaks(&f)
			report := Examine(f)
			var failed, unseen []string
			for _, l := range unwell(report) {
				assert.NotEmpty(t, l.Remedy, l.Text)
				if l.Verdict == Failure {
					failed = append(failed, l.Check)
				} else {
					unseen = append(unseen, l.Check)
				}
			}
			assert.Equal(t, c.failed, failed)
			assert.Equal(t, c.unseen, unseen)
			assert.Equal(t, len(report), report.Count(OK)+report.Count(Warning)+report.Count(Failure)+report.Count(Unseen))
		})
	}
}

// The actions that are looked for are those that are installed.
func TestTheActionsAreThoseOfTheFile(t *testing.T) {
	file, err := os.ReadFile("../../dbus-policy/org.dubnium.mode1.policy")
	require.NoError(t, err)
	var installed []string
	for _, m := range regexp.MustCompile(`<action id="([^"]+)">`).FindAllStringSubmatch(string(file), -1) {
		installed = append(installed, m[1])
	}
	assert.ElementsMatch(t, installed, Actions())
}

// Every unit that is installed and has to outlive an isolate is looked at.
func TestTheUnitsAreThoseThatAreInstalled(t *testing.T) {
	files, err := filepath.Glob("../../systemd/dubnium*.*")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if !strings.Contains(string(text), "IgnoreOnIsolate=yes") {
			continue
		}
		assert.Contains(t, Units(policy.Default()), strings.Replace(filepath.Base(file), "@.", "@0.", 1))
	}
}
