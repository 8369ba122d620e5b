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

// Statx is the system call as the probe makes it.
type Statx = statx

// SetStatx has another one made.
func (p *Probe) SetStatx(x Statx) { p.statx = x }

// SetLimits has the looks end earlier.
func (p *Probe) SetLimits(limit time.Duration) {
	p.files, p.lines = newTurns[openFiles](limit), newTurns[observer.Job](limit)
}

// Stuck counts the looks that were left behind and have not ended.
func (p *Probe) Stuck() (n int) {
	for _, t := range p.lines.stuck {
		if !t.over() {
			n++
		}
	}
	return n
}
