//go:build integration

package audio

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/audiopriority"
)

// quantum is what PipeWire says of its forced quantum, by its own tool.
func (d *desk) quantum(set ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.ctx, "pw-metadata", append([]string{"-n", "settings", "0", "clock.force-quantum"}, set...)...)
	cmd.Env = d.env
	out, err := cmd.CombinedOutput()
	require.NoError(d.t, err, string(out))
	return string(out)
}

func (d *desk) requireQuantum(want string) {
	d.t.Helper()
	require.Contains(d.t, d.quantum(), "value:'"+want+"'")
}

func (d *desk) forced() audiopriority.Quantum {
	return audiopriority.Quantum{Command: "pw-metadata", Env: d.env, Note: filepath.Join(d.dir, "before.json")}
}

// hold forces a quantum and returns once it is, with what ends it and how it ended.
func (d *desk) hold(samples int) (stop func(), ended chan error) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.ctx)
	d.t.Cleanup(cancel)
	ready := make(chan struct{})
	ended = make(chan error, 1)
	go func() {
		ended <- d.forced().Hold(ctx, samples, func() error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-ended:
		require.FailNow(d.t, "it is not forced", "%v", err)
	case <-time.After(20 * time.Second):
		require.FailNow(d.t, "it hangs")
	}
	return cancel, ended
}

func (d *desk) release() string {
	d.t.Helper()
	said, err := d.forced().Release(d.ctx)
	require.NoError(d.t, err)
	return said
}

func TestAForcedQuantumIsPutBack(t *testing.T) {
	d := newDesk(t)
	require.Equal(t, "no quantum was forced", d.release())
	d.quantum("256") // her own
	stop, ended := d.hold(128)
	d.requireQuantum("128")
	stop()
	require.NoError(t, <-ended)
	d.requireQuantum("128") // to put it back is for what runs after whatever end
	require.Equal(t, "quantum restored to 256", d.release())
	d.requireQuantum("256")
	require.Equal(t, "no quantum was forced", d.release())
}

func TestAQuantumThatSomebodyHasChangedSinceIsTheirs(t *testing.T) {
	d := newDesk(t)
	stop, ended := d.hold(128)
	d.quantum("64")
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, "quantum not restored: it was changed to 64", d.release())
	d.requireQuantum("64")
}

func TestAQuantumGoesWithItsPipeWire(t *testing.T) {
	d := newDesk(t)
	_, ended := d.hold(128)
	d.pipewire.kill()
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "PipeWire has exited")
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nobody noticed")
	}
	require.Contains(t, d.release(), "no quantum to restore")
	require.ErrorContains(t, d.forced().Hold(d.ctx, 128, nil), "cannot connect to PipeWire")
}
