package probe

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

// StoresReadBy returns a reader with another read function and a short limit.
func StoresReadBy(read func(path string) observer.Directory) *DirectoryReader {
	return &DirectoryReader{read: read, limit: 10 * time.Millisecond, pending: map[string]chan observer.Directory{}}
}

// NodeGPUs returns the GPUs of each node, by name.
func NodeGPUs(t *testing.T, r Roots) map[string][]string {
	topology, err := readTopology(r)
	require.NoError(t, err)
	byName := map[string][]string{}
	for _, n := range topology.nodes {
		byName[n.name] = n.gpus
	}
	return byName
}

// Statx is the signature of the system call.
type Statx = statx

// SetStatx replaces the system call.
func (p *Probe) SetStatx(x Statx) { p.statx = x }

// SetLimits shortens the time limits.
func (p *Probe) SetLimits(limit time.Duration) {
	p.files, p.lines = newTurns[openFiles](limit), newTurns[observer.Job](limit)
}

// Stuck counts the turns that have not ended.
func (p *Probe) Stuck() (n int) {
	for _, t := range p.lines.stuck {
		if !t.over() {
			n++
		}
	}
	return n
}
