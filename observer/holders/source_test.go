package holders_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/policy"
)

// probeSays returns a source whose probe writes text to everybody who asks.
func probeSays(t *testing.T, text string) *holders.Source {
	t.Helper()
	p := policy.Default()
	p.Paths.Probes = t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(p.Paths.Probes, holders.Socket))
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte(text))
			conn.Close()
		}
	}()
	return holders.New(p)
}

func look(t *testing.T, s *holders.Source) observer.ProcessScan {
	t.Helper()
	var snapshot observer.Snapshot
	before := time.Now()
	s.Read(t.Context()).Into(&snapshot)
	require.False(t, snapshot.Processes.At.Before(before), "every look has its time")
	return snapshot.Processes
}

const hyprland = `{"gpus":[{"pci":"0000:01:00.0","display":true}],"holders":[{"gpu":"0000:01:00.0","pid":812,
"command":"Hyprland","uid":1000,"unit":"session-3.scope","slices":["user.slice","user-1000.slice"],
"session":"3","nodes":["card0"]}],"unreadable":0}`

func TestRead(t *testing.T) {
	got := look(t, probeSays(t, hyprland))
	require.True(t, got.Known(), got.Reason)
	require.Equal(t, []observer.GPU{{PCI: "0000:01:00.0", Display: true}}, got.GPUs)
	require.Equal(t, []observer.Holder{{
		GPU: "0000:01:00.0", PID: 812, Command: "Hyprland", UID: 1000, Unit: "session-3.scope",
		Slices: []string{"user.slice", "user-1000.slice"}, Session: "3", Nodes: []string{"card0"},
	}}, got.Holders)
}

func TestReadJobs(t *testing.T) {
	got := look(t, probeSays(t, `{"gpus":[],"holders":[],"unreadable":0,
"jobs":{"told":true,"list":[{"pid":7,"command":"ma\u001bke","uid":1,
		"unit":"","pattern":"make"}]},"stores":[{"path":"/srv","fault":"","free":{"value":5}}]}`))
	require.True(t, got.Known(), got.Reason)
	require.Equal(
		t, []observer.Job{{Process: observer.Process{PID: 7, Command: "ma?ke", UID: 1}, Pattern: "make"}}, got.Jobs.List,
	)
	require.Equal(t, "/srv", got.Directories[0].Path)
	require.False(t, look(t, probeSays(t, hyprland)).Jobs.Complete, "an older probe does not say")
	for says, want := range map[string]string{
		`{"gpus":[],"holders":[],"jobs":{"told":true,"more":-1}}`:           "0 jobs and -1 more",
		`{"gpus":[],"holders":[],"jobs":{"told":true,"list":[{"pid":-1}]}}`: "a process with pid -1",

		`{"gpus":[],"holders":[],"stores":[{"path":"/srv","free":{"value":-1}}]}`:                     "-1 bytes free",
		`{"gpus":[],"holders":[],"stores":[` + strings.Repeat(`{"path":"/"},`, 70) + `{"path":"/"}]}`: "71 directories",
	} {
		require.Contains(t, look(t, probeSays(t, says)).Reason, want)
	}
}

func TestReadUnseen(t *testing.T) {
	got := look(t, probeSays(t, `{"gpus":[{"pci":"0000:01:00.0","display":true}],"holders":[],
"unreadable":5,"more_unseen":1,
		"unseen":[{"pid":7,"command":"ma\u001bny","uid":1001,"unit":"","slices":["user.slice"],"more":3}]}`))
	require.True(t, got.Known(), got.Reason)
	require.Equal(t, []observer.Unseen{{
		Process: observer.Process{PID: 7, Command: "ma?ny", UID: 1001}, Slices: []string{"user.slice"}, Truncated: 3,
	}}, got.Unseen)
	require.Equal(t, 1, got.MoreUnseen)
}

func TestLongListInvalid(t *testing.T) {
	one := func(entry string, n int) string { return strings.Repeat(entry+",", n) + entry }
	for want, says := range map[string]string{
		"1025 holders":                       `"holders":[` + one(`{"gpu":"0000:01:00.0","pid":1}`, holders.MaxHolders) + `]`,
		"65 processes without their open":    `"holders":[],"unseen":[` + one(`{"pid":1}`, holders.MaxUnseen) + `]`,
		"257 sound devices":                  `"holders":[],"pcms":[` + one(`{"pid":1}`, holders.MaxPCMs) + `]`,
		"17 digital audio workstations":      `"holders":[],"daws":[` + one(`{"pid":1}`, holders.MaxDAWs) + `]`,
		"65 jobs":                            `"holders":[],"jobs":{"list":[` + one(`{"pid":1}`, holders.MaxJobs) + `]}`,
		"and -1 more":                        `"holders":[],"more_unseen":-1`,
		"-2 more like it":                    `"holders":[],"unseen":[{"pid":1,"more":-2}]`,
		"pid 1 and -1 more":                  `"holders":[{"gpu":"0000:01:00.0","pid":1,"more":-1}]`,
		"65 processes without their command": `"holders":[],"jobs":{"unread":[` + one(`{"pid":1}`, holders.MaxUnseen) + `]}`,
	} {
		got := look(t, probeSays(t, `{"gpus":[{"pci":"0000:01:00.0"}],`+says+`}`))
		require.Contains(t, got.Reason, want)
	}
}

func TestHiddenGPUKnown(t *testing.T) {
	require.True(t, look(t, probeSays(t, `{"gpus":[],"holders":[],"unreadable":3,"new_key":1}`)).Known())
	got := look(t, probeSays(t, `{"gpus":[{"pci":"0000:01:00.0","hidden":true,"driver":"v\u001bfio"}],
"holders":[],"unreadable":3}`))
	require.True(t, got.Known(), "nobody can have a node open that is not there: %s", got.Reason)
	require.Equal(t, "v?fio", got.GPUs[0].Driver)
}

func TestNextPollDesktop(t *testing.T) {
	p := policy.Default()
	var desktop observer.Snapshot
	desktop.Systemd.Units = map[string]observer.Unit{p.Units.DesktopTarget: {ActiveState: "active"}}
	desktop.Processes.At = time.Unix(100, 0)
	require.Zero(t, holders.New(p).NextPoll(desktop))
	p.GPU.Display = []string{"0000:01:00.0"}
	require.Equal(t, time.Unix(100, 0).Add(p.GPU.Recheck.D()), holders.New(p).NextPoll(desktop))
}

func TestInvalidAnswers(t *testing.T) {
	cases := map[string]struct{ says, want string }{
		"nothing":         {"", "closed the connection without an answer"},
		"not JSON":        {"Segmentation fault", "not a document"},
		"half a document": {hyprland[:80], "not a document"},
		"two documents":   {hyprland + hyprland, "has data after the document"},
		"an empty object": {"{}", "lacks the GPUs"},
		"null":            {"null", "lacks the GPUs"},
		"no holders":      {`{"gpus":[]}`, "lacks the GPUs or the holders"},
		"an error":        {`{"error":"cannot list \u001b[31mprocesses"}`, "reports: cannot list ?[31mprocesses"},
		"hidden processes": {
			`{"gpus":[{"pci":"0000:01:00.0"}],"holders":[],"unreadable":2}`, "cannot read the open files of 2 processes",
		},
		"an unlisted GPU":        {`{"gpus":[],"holders":[{"gpu":"0000:01:00.0","pid":1}]}`, "which it did not list"},
		"a wrong audio function": {`{"gpus":[{"pci":"0000:01:00.0","audio":"a b"}],"holders":[]}`, `names a GPU "a b"`},
		"a wrong GPU":            {`{"gpus":[{"pci":"a b"}],"holders":[]}`, `names a GPU "a b"`},
		"a GPU on two lines":     {`{"gpus":[{"pci":"card0\n"}],"holders":[]}`, `names a GPU "card0`},
		"a GPU with a long name": {`{"gpus":[{"pci":"` + strings.Repeat("a", 65) + `"}],"holders":[]}`, `names a GPU "aaa`},
		"a wrong pid":            {strings.Replace(hyprland, "812", "-1", 1), "pid -1"},
		"a wrong count":          {`{"gpus":[],"holders":[],"unreadable":-1}`, "a negative number of processes"},
		"a wrong type":           {`{"gpus":{},"holders":[]}`, "not a document"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := look(t, probeSays(t, c.says))
			require.False(t, got.Known())
			require.Contains(t, got.Reason, c.want)
			require.Empty(t, got.Holders)
		})
	}
}

func TestCommandCleaned(t *testing.T) {
	says := strings.Replace(hyprland, "Hyprland", `\u001b]0;x\u0007\nfoo`+strings.Repeat("é", 100), 1)
	got := look(t, probeSays(t, says)).Holders[0].Command
	require.True(t, strings.HasPrefix(got, "?]0;x??foo"), got)
	require.LessOrEqual(t, len(got), 64)
}

func TestReadSound(t *testing.T) {
	got := look(t, probeSays(t, `{"gpus":[],"holders":[],
"pcms":[{"name":"card0/pcm0p/sub0","pid":7,"command":"a\u0007play","uid":1000}],
		"daws":[{"pid":9,"command":"reaper"}]}`))
	require.Equal(
		t, []observer.PCM{{Name: "card0/pcm0p/sub0", Process: observer.Process{PID: 7, Command: "a?play", UID: 1000}}},
		got.PCMs,
	)
	require.Equal(t, []observer.Process{{PID: 9, Command: "reaper"}}, got.DAWs)
	require.True(t, got.SoundComplete)
	got = look(t, probeSays(t, `{"gpus":[],"holders":[]}`))
	require.True(t, got.Known())
	require.False(t, got.SoundComplete, "an older probe")
	require.False(t, look(t, probeSays(t, `{"gpus":[],"holders":[],"pcms":[{"pid":-1}]}`)).Known())
}

func TestProbeMissing(t *testing.T) {
	p := policy.Default()
	p.Paths.Probes = t.TempDir()
	require.Contains(t, look(t, holders.New(p)).Reason, "the holders probe is missing: there is no socket")
}

func TestNextPollCompute(t *testing.T) {
	p := policy.Default()
	s := holders.New(p)
	require.Zero(t, s.NextPoll(observer.Snapshot{}))
	var compute observer.Snapshot
	compute.Systemd.Units = map[string]observer.Unit{p.Units.ComputeTarget: {ActiveState: "active"}}
	compute.Processes.At = time.Unix(100, 0)
	require.Equal(t, time.Unix(100, 0).Add(p.Timeouts.Recheck.D()), s.NextPoll(compute))
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, holders.New(policy.Default()).Watch(ctx, func() { t.Error("nothing changed") }))
}
