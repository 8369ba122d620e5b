package render

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

func document(t *testing.T, text string) policy.Document {
	t.Helper()
	d, err := policy.ParseDocument("/etc/dubnium/policy.toml", []byte(text))
	require.NoError(t, err)
	return d
}

func TestPolicies(t *testing.T) {
	old := document(t, "transitions = \"overlay\"\nvllm.profiles.fast = { unit = \"vllm-fast.service\" }")
	next := document(t, "transitions = \"all\"\n[paths]\nstate = \"/state\"\n[gpu]\ndisplay = [\"0000:01:00.0\"]")
	p := busapi.Policy{File: old.File}
	for _, s := range old.Settings() { // some: a new key is nothing to these texts
		if slices.Contains(
			[]string{"transitions", "paths.state", "vllm.enabled", "vllm.profiles", "gpu.permitted_holders"}, s.Key,
		) {
			p.Settings = append(p.Settings, s)
		}
	}
	golden(t, "policy-show", Policy(p))
	golden(t, "policy-show.json", PolicyJSON(p))
	changes := policy.Diff(old.Settings(), next.Settings())
	golden(t, "policy-diff", Diff(changes))
	golden(t, "policy-diff.json", DiffJSON(changes))
	require.Empty(t, Diff(nil))
	require.Equal(t, "[]\n", FindingsJSON(nil))
	_, err := policy.Parse("p.toml", []byte("colour = 1\n[vllm]\nenabled = \"yes\""))
	golden(t, "policy-check", Findings(policy.Findings(err)))
	golden(t, "policy-check.json", FindingsJSON(policy.Findings(err)))
}

func TestAProposalIsAPolicyThatCanBeUsed(t *testing.T) {
	loaded := func(id string) observer.Unit { return observer.Unit{ID: id, LoadState: "loaded"} }
	known := observer.Reading{At: now}
	seen := observer.Snapshot{
		Systemd: observer.Systemd{Reading: known, State: "running", Units: map[string]observer.Unit{
			"desktop.target": loaded("desktop.target"), "compute.target": loaded("compute.target"),
			"display-manager.service": loaded("greetd.service"), "vllm.service": loaded("vllm.service"),
		}},
		Processes: observer.ProcessScan{Reading: known, GPUs: []observer.GPU{
			{PCI: "0000:01:00.0", Display: true, Driver: "nvidia"},
			{PCI: "0000:02:00.0", Driver: "vfio-pci", Hidden: true},
			{PCI: "platform", Display: true, Driver: "simpledrm"},
			{PCI: "0000:03:00.0", Driver: "nvidia"},
		}},
		GPU: observer.NVML{Reading: known, Cards: []observer.Card{{PCI: "0000:01:00.0", Name: "NVIDIA \x1b[31mRTX"}}},
	}
	blind := observer.Snapshot{
		Systemd:   observer.Systemd{Reading: observer.Reading{At: now, Reason: "no answer"}},
		Processes: observer.ProcessScan{Reading: observer.Reading{At: now, Reason: "no probe"}},
	}
	for name, s := range map[string]observer.Snapshot{"policy-init": seen, "policy-init-blind": blind} {
		p := Propose(policy.Default(), s)
		golden(t, name, p.TOML())
		golden(t, name+".nix", p.Nix())
		inTOML, err := policy.Parse(name, []byte(p.TOML()))
		require.NoError(t, err)
		var keys map[string]any
		require.NoError(t, toml.Unmarshal([]byte(p.TOML()), &keys))
		inJSON, err := json.Marshal(keys)
		require.NoError(t, err)
		require.JSONEq(t, string(inJSON), p.JSON())
		require.Equal(t, policy.TrustObserve, inTOML.Transitions)
	}
	require.Equal(t, `"\${x} \" \\"`, literal(`${x} " \`, `"$`, " "))
}
