package holders_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/probeclient"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
)

// Every list is full, and every name as long as the kernel lets it be, of characters
// that take six bytes in JSON.
func TestTheLongestDocumentIsAccepted(t *testing.T) {
	long := func(n int) string { return strings.Repeat("<", n) }
	process := observer.Process{
		PID: 1 << 22, Command: long(15), UID: 1 << 31, Unit: "user@4000000000.service/" + long(255), Session: long(64),
	}
	slices := []string{"user.slice", "user-4000000000.slice"}
	d := holders.Document{GPUs: []observer.GPU{{PCI: "10000:01:00.0"}}}
	for range holders.MaxHolders {
		d.Holders = append(d.Holders, observer.Holder{
			GPU: d.GPUs[0].PCI, PID: process.PID, Command: process.Command, UID: process.UID,
			Unit: process.Unit, Session: process.Session,
			Slices: slices, Nodes: strings.Fields(strings.Repeat("nvidia-uvm-tools ", 30)), Truncated: 1 << 22,
		})
	}
	for range holders.MaxUnseen {
		d.Unseen = append(d.Unseen, observer.Unseen{Process: process, Slices: slices, Denied: true, Truncated: 1 << 22})
	}
	for range holders.MaxPCMs {
		d.PCMs = append(d.PCMs, observer.PCM{Name: "card31/pcm31p/sub127", Process: process})
	}
	for range holders.MaxDAWs {
		d.DAWs = append(d.DAWs, process)
	}
	for range holders.MaxJobs {
		d.Jobs.List = append(d.Jobs.List, observer.Job{Process: process, Pattern: long(200)})
	}
	d.Jobs.Unread = d.Unseen
	data, err := json.Marshal(d)
	require.NoError(t, err)
	require.Less(t, len(data), probeclient.MaxDocument/2)
	_, err = holders.Decode(data)
	require.NoError(t, err)
}

// FuzzDecode: no answer of a probe crashes the daemon, is larger than it may be, or
// gets a control character past it.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(hyprland))
	f.Add([]byte(`{"gpus":[],"holders":[],"unreadable":0}`))
	f.Add([]byte(`{"error":"\u0007"}`))
	f.Add([]byte(`{"gpus":[{"pci":"card0"}],"holders":[{"gpu":"card0","pid":1,"command":"\u202e\ud800","slices":null}]}`))
	f.Add([]byte(`{"gpus":[],"holders":[],"more_unseen":1,` +
		`"unseen":[{"pid":1,"unit":"\n","slices":["\u0000"],"more":9223372036854775807}]}`))
	f.Add([]byte(`{"gpus":[],"holders":[],"more_pcms":1,` +
		`"pcms":[{"name":"\u009b","pid":1}],"daws":[{"command":"\u2028"}]}`))
	f.Add([]byte(`{"gpus":[],"holders":[],"stores":[{"path":"\t","free":{"reason":"\u001b"}}],` +
		`"jobs":{"reason":"\r","list":[{"pattern":"\u0085"}],"unread":[{"session":"\u0007"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := holders.Decode(data)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(d.Holders), holders.MaxHolders)
		require.LessOrEqual(t, len(d.Unseen), holders.MaxUnseen)
		require.LessOrEqual(t, len(d.Jobs.Unread), holders.MaxUnseen)
		require.LessOrEqual(t, len(d.PCMs), holders.MaxPCMs)
		require.LessOrEqual(t, len(d.DAWs), holders.MaxDAWs)
		require.LessOrEqual(t, len(d.Jobs.List), holders.MaxJobs)
		again, err := json.Marshal(d)
		require.NoError(t, err)
		var tree any
		require.NoError(t, json.Unmarshal(again, &tree))
		requirePrintable(t, tree)
	})
}

// requirePrintable holds for every text in a document, those of lists that are added to
// it as well.
func requirePrintable(t *testing.T, tree any) {
	t.Helper()
	switch tree := tree.(type) {
	case string:
		require.LessOrEqual(t, len(tree), 4096)
		for _, r := range tree {
			require.True(t, unicode.IsPrint(r), "%q", tree)
		}
	case []any:
		for _, v := range tree {
			requirePrintable(t, v)
		}
	case map[string]any:
		for _, v := range tree {
			requirePrintable(t, v)
		}
	}
}
