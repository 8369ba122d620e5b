package probe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

// StoresThatAsk looks by another function, with little patience.
func StoresThatAsk(look func(path string) observer.Store) *Stores {
	return &Stores{look: look, patient: 10 * time.Millisecond, asked: map[string]chan observer.Store{}}
}

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
