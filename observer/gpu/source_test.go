package gpu_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/gpu"
	"github.com/dubnium/dubnium/policy"
)

// probeSays looks at a probe that writes text to everybody who asks.
func probeSays(t *testing.T, text string) observer.NVML {
	t.Helper()
	p := policy.Default()
	p.Paths.Probes = t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(p.Paths.Probes, gpu.Socket))
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
	var s observer.Snapshot
	before := time.Now()
	gpu.New(p).Read(t.Context()).Into(&s)
	require.False(t, s.GPU.At.Before(before), "every look has its time")
	return s.GPU
}

const card = `{"pci":"0000:01:00.0","uuid":"GPU-1","name":"RTX","memory_total":{"value":100},"memory_used":{"value":7},
"compute":{"processes":[{"pid":7,"command":"python3","uid":1000,"unit":"session-2.scope","slices":["user.slice"],
"memory":{"value":5}}]},
"graphics":{"processes":[]}}`

func TestRead(t *testing.T) {
	got := probeSays(t, `{"driver":true,"cards":[`+card+`],"new_key":1}`)
	require.True(t, got.Known(), got.Reason)
	require.True(t, got.Driver)
	process := got.Cards[0].Compute.Processes[0]
	require.Equal(t, "python3", process.Command)
	require.EqualValues(t, 1000, *process.UID)
	require.InDelta(t, 7, *got.Cards[0].MemoryUsed.Value, 0)
}

func TestNoDriver(t *testing.T) {
	got := probeSays(t, `{"driver":false,"cards":[]}`)
	require.True(t, got.Known(), got.Reason)
	require.False(t, got.Driver)
}

func TestInvalidAnswers(t *testing.T) {
	with := func(old, new string) string {
		return `{"driver":true,"cards":[` + strings.Replace(card, old, new, 1) + `]}`
	}
	cases := map[string]struct{ says, want string }{
		"nothing":                   {"", "closed the connection without an answer"},
		"not JSON":                  {"Segmentation fault", "not a document"},
		"two documents":             {`{"driver":false,"cards":[]}{}`, "has data after the document"},
		"an empty object":           {`{}`, "lacks the driver or the cards"},
		"no cards":                  {`{"driver":true}`, "lacks the driver or the cards"},
		"cards without a driver":    {`{"driver":false,"cards":[` + card + `]}`, "lists cards without a driver"},
		"an error":                  {`{"error":"NVML is \u001b[31mbusy"}`, "reports: NVML is ?[31mbusy"},
		"a card twice":              {`{"driver":true,"cards":[` + card + `,` + card + `]}`, "0000:01:00.0 twice"},
		"a card by its node":        {with("0000:01:00.0", "card0"), `a card at "card0"`},
		"a card without an address": {with("0000:01:00.0", ""), "without a reason"},
		"a wrong pid":               {with(`"pid":7`, `"pid":0`), "a process with pid 0"},
		"a negative user":           {with(`"uid":1000`, `"uid":-1`), "not a document"},
		"too many cards": {
			`{"driver":true,"cards":[` + strings.Repeat(`{"reason":"x"},`, 64) + `{"reason":"x"}]}`, "more than 64 cards",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := probeSays(t, c.says)
			require.False(t, got.Known())
			require.Contains(t, got.Reason, c.want)
			require.Empty(t, got.Cards)
		})
	}
}

func TestInvalidMeasure(t *testing.T) {
	for _, value := range []string{`{}`, `{"value":null}`, `{"value":-1}`, `{"value":-1,"reason":""}`} {
		changed := strings.Replace(card, `"memory_used":{"value":7}`, `"memory_used":`+value, 1)
		says := `{"driver":true,"cards":[` + changed + `]}`
		got := probeSays(t, says)
		require.True(t, got.Known(), got.Reason)
		require.Equal(t, observer.Measure{Reason: "the driver does not report it"}, got.Cards[0].MemoryUsed)
	}
}

// A card that is said to be unknown has nothing else.
func TestLostCard(t *testing.T) {
	lost := strings.Replace(card, `"name"`, `"reason":"GPU is lost","name"`, 1)
	got := probeSays(t, `{"driver":true,"cards":[`+lost+`]}`)
	require.True(t, got.Known(), got.Reason)
	require.Nil(t, got.Cards[0].MemoryUsed.Value)
	require.Empty(t, got.Cards[0].Compute.Processes)
	require.Equal(t, "GPU is lost", got.Cards[0].Reason)
}

func TestProbeMissing(t *testing.T) {
	p := policy.Default()
	p.Paths.Probes = t.TempDir()
	var s observer.Snapshot
	gpu.New(p).Read(t.Context()).Into(&s)
	require.Contains(t, s.GPU.Reason, "the gpu probe is missing: there is no socket")
}

func TestNextPoll(t *testing.T) {
	plain := policy.Default()
	named := plain
	named.GPU.AI = []string{"0000:01:00.0"}
	at := time.Unix(100, 0)
	host := func(target string) observer.Snapshot {
		var s observer.Snapshot
		s.Systemd.Units = map[string]observer.Unit{target: {ActiveState: "active"}}
		s.GPU.At = at
		return s
	}
	desktop, compute := host(plain.Units.DesktopTarget), host(plain.Units.ComputeTarget)
	require.Zero(t, gpu.New(plain).NextPoll(desktop))
	require.Zero(t, gpu.New(plain).NextPoll(compute))
	require.Zero(t, gpu.New(named).NextPoll(host("multi-user.target")))
	require.Equal(t, at.Add(named.GPU.Recheck.D()), gpu.New(named).NextPoll(desktop))
	require.Equal(t, at.Add(named.Timeouts.Recheck.D()), gpu.New(named).NextPoll(compute))
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, gpu.New(policy.Default()).Watch(ctx, func() { t.Error("nothing changed") }))
}

// FuzzDecode: no answer of a probe crashes the daemon, gets a control character
// past it, or becomes less than no memory.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"driver":true,"cards":[` + card + `]}`))
	f.Add([]byte(`{"driver":false,"cards":[]}`))
	f.Add([]byte(`{"driver":true,"cards":[{"reason":"\u0007"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := gpu.Decode(data)
		if err != nil {
			return
		}
		for _, c := range d.Cards {
			require.True(t, c.MemoryUsed.Value == nil || *c.MemoryUsed.Value >= 0)
			for _, p := range append(c.Compute.Processes, c.Graphics.Processes...) {
				require.Positive(t, p.PID)
				for _, s := range append([]string{p.Command, p.Unit, c.Name, c.UUID, c.Reason}, p.Slices...) {
					require.NotContains(t, s, "\x1b")
					require.NotContains(t, s, "\n")
				}
			}
		}
	})
}
