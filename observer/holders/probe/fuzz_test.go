package probe

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/policy"
)

// FuzzCgroup: whatever a cgroup file says, what is read from it is within the bounds
// that the daemon holds it to.
func FuzzCgroup(f *testing.F) {
	f.Add("0::/user.slice/user-1000.slice/session-c2.scope\n")
	f.Add("5:cpu,cpuacct:/\n1:name=systemd:/system.slice/greetd.service\n0::/\n")
	f.Add("0::/" + strings.Repeat("a.slice/", 500) + "b.service")
	f.Add("0::/system.slice/" + strings.Repeat("b", 300) + ".service\n")
	f.Add("0::")
	f.Add("0::/../../ai.slice/vllm.service\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := placeOf(text)
		require.LessOrEqual(t, len(got.unit), 2*maxUnit+1)
		require.LessOrEqual(t, len(got.slices), maxSlices)
		for _, slice := range got.slices {
			require.LessOrEqual(t, len(slice), maxUnit)
			require.NotContains(t, slice, "/")
		}
		require.LessOrEqual(t, strings.Count(got.unit, "/"), 1)
		_ = accountOf(got)
	})
}

// FuzzDelegated: below what the system manager made, and beside it, nobody's cgroup
// passes for a unit or slice of the system's.
func FuzzDelegated(f *testing.F) {
	f.Add("ai.slice/nvidia-persistenced.service")
	f.Add("_ai.slice/systemd-logind.service (deleted)")
	f.Add("/session-1.scope")
	f.Add("user@1000.service/app.service")
	f.Fuzz(func(t *testing.T, below string) {
		below, _, _ = strings.Cut(below, "\n") // the kernel refuses it in a name: cgroup_mkdir
		for within, want := range map[string]place{
			"/system.slice/docker.service/": {"docker.service", []string{"system.slice"}, ""},
			"/docker/0a1b/":                 {"", []string{}, ""},
			"/user.slice/user-1000.slice/session-3.scope/": {
				"session-3.scope", []string{"user.slice", "user-1000.slice"}, "3",
			},
			"/kubepods.slice/pod_a.slice/cri-0a.scope/main/": {"cri-0a.scope", []string{"kubepods.slice", "pod_a.slice"}, ""},
		} {
			require.Equal(t, want, placeOf("0::"+within+below+"\n"))
			require.Equal(t, want, placeOf("0::/\n1:name=systemd:"+within+below+"\n"))
		}
	})
}

// FuzzStatus: a process cannot choose a name that makes it somebody else's.
func FuzzStatus(f *testing.F) {
	f.Add("bash", []byte("Name:\tbash\nUid:\t1000\t1000\t1000\t1000\n"))
	f.Add("x\nUid:\t0\t0\t0\t0", []byte("Uid:\t-1\n"))
	f.Add("Uid:\t0", []byte("Uid:"))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		_, _ = realUser(text) // the kernel's own, and still
		_ = field(text, "Tgid")
		// The kernel escapes as printf does (proc_task_name).
		escaped := strings.NewReplacer("\n", `\n`, `\`, `\\`).Replace(name)
		uid, err := realUser(fmt.Appendf(nil, "Name:\t%s\nUmask:\t0022\nTgid:\t7\nUid:\t1000\t0\t0\t0\n", escaped))
		require.NoError(t, err)
		require.EqualValues(t, 1000, uid)
	})
}

// FuzzCommandLine: no name and no command line makes a pattern of the policy fail, or
// gets through to the document.
func FuzzCommandLine(f *testing.F) {
	f.Add("make", []byte("make\x00-j8\x00"))
	f.Add("tmux: server", []byte("tmux\x00new\x00\x00\x00"))
	f.Add("\xff\xfe", []byte("\x00\x00"))
	f.Fuzz(func(t *testing.T, name string, arguments []byte) {
		line := lineOf(arguments)
		require.LessOrEqual(t, len(line), len(arguments))
		require.NotContains(t, line, "\x00")
		pattern, _, ok := policy.Default().Guards.JobPattern(name, line)
		require.Equal(t, ok, pattern != "")
		_ = policy.Default().Audio.IsDAW(name)
	})
}

// FuzzComm: what a process calls itself is text of bounded length when it leaves us.
func FuzzComm(f *testing.F) {
	f.Add("bash")
	f.Add("\xff\n\x1b[31m)")
	f.Add(strings.Repeat("x", 100))
	f.Fuzz(func(t *testing.T, comm string) {
		name := nameOf([]byte(comm[:min(len(comm), maxComm)]))
		require.True(t, utf8.ValidString(name))
		require.LessOrEqual(t, len(name), maxComm)
		require.False(t, strings.HasSuffix(comm, "\n") && len(comm) <= maxComm && len(name) == len(comm))
	})
}

// FuzzPCM: whatever the kernel says of a sound device, one that is not closed is open.
func FuzzPCM(f *testing.F) {
	f.Add([]byte("closed\n"))
	f.Add([]byte("state: RUNNING\nowner_pid   : 801\n"))
	f.Add([]byte("owner_pid: -1\nowner_pid: 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, status []byte) {
		_, open := pcmOwner(status)
		text := strings.TrimSpace(string(status))
		require.Equal(t, text != "closed" && text != "", open)
	})
}

// FuzzNVIDIA: numbers are those of device nodes, or an error.
func FuzzNVIDIA(f *testing.F) {
	f.Add(
		"Model: \t\t NVIDIA GeForce RTX 3090\nIRQ:   \t\t 149\nDevice Minor: \t 3\n",
		"Character devices:\n195 nvidia\n510 nvidia-uvm\n\nBlock devices:\n  7 nvidia\n",
	)
	f.Add("Device Minor: -1", "Character devices:\n195 nvidia-frontend\n")
	f.Add("Device Minor: 99999999", "4096 nvidia-uvm\n1 2 3\n")
	f.Fuzz(func(t *testing.T, information, devices string) {
		if minor, err := minorIn(information); err == nil {
			require.Less(t, minor, uint32(1<<20))
		}
		majors := majorsIn(devices)
		require.Contains(t, majors, "nvidia")
		for _, major := range majors {
			require.Less(t, major, uint32(1<<12))
		}
	})
}
