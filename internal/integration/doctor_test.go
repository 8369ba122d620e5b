//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/doctor"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// checkup is what `modectl doctor --json` prints.
type checkup struct {
	Failures, Warnings, Unseen int
	Lines                      doctor.Report
}

// examined runs the doctor. The machine is simulated, but not its clock, nor who the
// tests run as: what the doctor says of those is left out.
func examined(t *testing.T, w *embedded.Workstation) (checkup, answer) {
	t.Helper()
	a := modectl(t, w, "doctor", "--json")
	c := decode[checkup](t, a.stdout)
	c.Lines = slices.DeleteFunc(c.Lines, func(l doctor.Line) bool {
		return l.Check == "clock" || os.Geteuid() != 0 && (l.Check == "paths" || strings.Contains(l.Text, "not by root"))
	})
	return c, a
}

// unwell are the lines that are not ok.
func (c checkup) unwell() doctor.Report {
	return slices.DeleteFunc(slices.Clone(c.Lines), func(l doctor.Line) bool { return l.Verdict == doctor.OK })
}

func TestTheDoctorFindsNothingOnAHealthyHost(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	c, a := examined(t, w)
	require.Empty(t, c.unwell())
	if os.Geteuid() == 0 {
		require.Zero(t, a.code, a.stdout)
	}
	for _, check := range doctor.Checks() {
		if check == "clock" {
			continue
		}
		assert.True(t, slices.ContainsFunc(c.Lines, func(l doctor.Line) bool { return l.Check == check }), check)
	}
	assert.Contains(t, modectl(t, w, "doctor").stdout, "dubniumd owns org.dubnium.Mode1 and answers")
}

// TestTheDoctorNamesWhatIsBroken: each thing that is broken is named, with what to do, and nothing else is.
func TestTheDoctorNamesWhatIsBroken(t *testing.T) {
	t.Parallel()
	unit := func(u testhost.Unit) testhost.Options { return testhost.Options{Units: []testhost.Unit{u}} }
	cases := map[string]struct {
		host   testhost.Options
		policy func(*policy.Policy)
		breaks func(t *testing.T, w *embedded.Workstation)
		says   map[string]doctor.Verdict
	}{
		"a target that is masked": {
			breaks: func(t *testing.T, w *embedded.Workstation) { require.NoError(t, w.Mask("compute.target")) },
			says:   map[string]doctor.Verdict{"compute.target is masked": doctor.Failure},
		},
		"a probe that isolating would stop": {
			host: unit(testhost.Unit{Name: "dubnium-probe-holders.socket", WantedBy: []string{"sockets.target"}}),
			says: map[string]doctor.Verdict{
				"a transition would stop dubnium-probe-holders.socket": doctor.Failure,
			},
		},
		"a target that may not be isolated": {
			host: unit(testhost.Unit{
				Name: "compute.target", Requires: []string{"multi-user.target"}, Conflicts: []string{
					"graphical.target", "desktop.target",
				},
			}),
			says: map[string]doctor.Verdict{"compute.target cannot be isolated": doctor.Failure},
		},
		"another target at boot": {
			host: testhost.Options{DefaultTarget: "graphical.target"},
			says: map[string]doctor.Verdict{"the machine boots to graphical.target": doctor.Warning},
		},
		"actions that polkit does not know": {
			breaks: func(_ *testing.T, w *embedded.Workstation) { w.SetPolkitActions("org.dubnium.mode1.request-desktop") },
			says:   map[string]doctor.Verdict{"actions unknown to polkit: org.dubnium.mode1.request-studio-local, ": doctor.Failure},
		},
		"a GPU and units that are not there": {
			policy: func(p *policy.Policy) {
				p.GPU.AI, p.MustSurvive = []string{"0000:77:00.0"}, []string{"sauna.service"}
				p.VLLM.Profiles = map[string]policy.Profile{"default": {Unit: "vllm.service"}, "fast": {Unit: "vllm-fast.service"}}
			},
			says: map[string]doctor.Verdict{
				"the policy names the GPU 0000:77:00.0, but the host has no GPU at this address": doctor.Failure,
				"the policy names sauna.service (must_survive)":                                  doctor.Warning,
				"the policy names vllm-fast.service (vllm.profiles.fast)":                        doctor.Failure,
			},
		},
		"a policy file that was changed": {
			breaks: func(t *testing.T, w *embedded.Workstation) { writePolicy(t, w, "default_mode = \"studio-local\"\n") },
			says: map[string]doctor.Verdict{
				"are not in force: transitions, default_mode, ": doctor.Warning,
			},
		},
		"a policy file that cannot be used": {
			breaks: func(t *testing.T, w *embedded.Workstation) { writePolicy(t, w, "sauna = true\n") },
			says:   map[string]doctor.Verdict{"policy.toml:1:1: unknown key sauna": doctor.Failure},
		},
		"a history that cannot be written": {
			breaks: func(t *testing.T, w *embedded.Workstation) {
				file := filepath.Join(w.Policy.Paths.State, "events.jsonl")
				require.NoError(t, os.Remove(file))
				require.NoError(t, os.Mkdir(file, 0o755))
				require.Equal(t, 0, modectl(t, w, "request", "desktop").code, "that is no reason to do nothing")
			},
			says: map[string]doctor.Verdict{"dubniumd warns: history-not-written: ": doctor.Warning},
		},
		"a probe that talks nonsense": {
			breaks: func(t *testing.T, w *embedded.Workstation) {
				require.NoError(t, w.SetProbeFault("inference", testhost.ProbeGarbage))
			},
			says: map[string]doctor.Verdict{"the inference probe has no data: ": doctor.Failure},
		},
	}
	if os.Geteuid() == 0 {
		cases["a directory that others can write"] = struct {
			host   testhost.Options
			policy func(*policy.Policy)
			breaks func(t *testing.T, w *embedded.Workstation)
			says   map[string]doctor.Verdict
		}{
			breaks: func(t *testing.T, w *embedded.Workstation) { require.NoError(t, os.Chmod(w.Policy.Paths.State, 0o777)) },
			says:   map[string]doctor.Verdict{"users other than root can change ": doctor.Failure},
		}
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, c.host, c.policy)
			if c.breaks != nil {
				c.breaks(t, w)
			}
			report, a := examined(t, w)
			said := map[string]bool{}
			code := 0
			for _, l := range report.unwell() {
				named := false
				for text, verdict := range c.says {
					if strings.Contains(l.Text, text) {
						require.Equal(t, verdict, l.Verdict, l.Text)
						named, said[text] = true, true
					}
				}
				if l.Verdict == doctor.Failure {
					code = 51
				}
				assert.True(t, named, "nothing else is wrong: %+v", l)
				assert.NotEmpty(t, l.Remedy, l.Text)
			}
			assert.Len(t, said, len(c.says), report.unwell())
			if os.Geteuid() == 0 {
				assert.Equal(t, code, a.code)
			}
		})
	}
}

func writePolicy(t *testing.T, w *embedded.Workstation, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(w.Policy.Paths.State), "policy.toml"), []byte(text), 0o644))
}

// TestTheDoctorWorksWithoutTheDaemon: it says so, and looks at what can be looked at.
func TestTheDoctorWorksWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.NoError(t, w.Mask("desktop.target"))
	require.NoError(t, w.StopDaemon())
	c, a := examined(t, w)
	require.Equal(t, 41, a.code)
	var failures, unseen []string
	for _, l := range c.Lines {
		switch l.Verdict {
		case doctor.Failure:
			failures = append(failures, l.Text)
		case doctor.Unseen:
			unseen = append(unseen, l.Check)
		}
		if l.Verdict != doctor.OK {
			assert.NotEmpty(t, l.Remedy, l.Text)
		}
	}
	assert.Contains(t, failures, "desktop.target is masked")
	assert.Contains(t, strings.Join(failures, "\n"), "dubniumd is not running")
	for _, check := range []string{"probes", "gpu", "audio", "versions"} {
		assert.Contains(t, unseen, check)
	}
	assert.Contains(t, modectl(t, w, "doctor").stdout, "systemctl start dubniumd")
}

// As somebody else than root the doctor sees what everybody may, and says what it
// could not look at.
func TestTheDoctorIsForEverybody(t *testing.T) {
	t.Parallel()
	w := start(t, testhost.Options{}, nil)
	require.NoError(t, os.Chmod(w.Policy.Paths.State, 0o750))
	a := run(t, as(nobody, w.ModectlCommand(bounded(t), "doctor")))
	require.Contains(t, a.stdout, "dubniumd owns org.dubnium.Mode1 and answers")
	require.Contains(t, a.stdout, "the holders probe answers")
	if os.Geteuid() == 0 {
		require.Zero(t, a.code, a.stdout)
		require.Contains(t, a.stdout, "run modectl doctor as root")
	}
}
