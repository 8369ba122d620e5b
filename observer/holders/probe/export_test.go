package probe

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// NodeGPUs shows which GPUs each node counts for.
func NodeGPUs(t *testing.T, r Roots) map[string][]string {
	topology, err := readTopology(r)
	require.NoError(t, err)
	byName := map[string][]string{}
	for _, n := range topology.nodes {
		byName[n.name] = n.gpus
	}
	return byName
}
