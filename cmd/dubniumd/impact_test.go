package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/observer/unitgraph"
)

// dubniumd runs a subcommand on a simulated workstation.
func dubniumd(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := execute(t.Context(), &out, args)
	return out.String(), err
}

func TestImpactTellsWhatIsolatingComputeDoes(t *testing.T) {
	host := hosttest.Start(t, testhost.Options{Units: []testhost.Unit{
		{Name: "session-job.service", WantedBy: []string{"desktop.target"}, Transient: true},
	}})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", host.Address())
	text, err := dubniumd(t, "impact", "compute.target")
	require.NoError(t, err)
	assert.Contains(t, text, "stops session-job.service (not-wanted by compute.target), and cannot be started again\n")
	assert.Contains(t, text, "starts compute.target\n")

	text, err = dubniumd(t, "impact", "--json", "compute.target")
	require.NoError(t, err)
	var impact unitgraph.IsolateImpact
	require.NoError(t, json.Unmarshal([]byte(text), &impact))
	assert.True(t, impact.StopsUnit("session-job.service"))

	text, err = dubniumd(t, "impact", "basic.target")
	require.NoError(t, err)
	assert.Contains(t, text, "systemd would refuse: basic.target may not be isolated")
}

func TestImpactWithoutABusIsAnError(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/dubnium-test")
	_, err := dubniumd(t, "impact", "compute.target")
	require.ErrorContains(t, err, "cannot connect to the system bus")
}
