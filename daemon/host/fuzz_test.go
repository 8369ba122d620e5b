package host

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSavedState requires that any content of the file is an error, or usable.
func FuzzSavedState(f *testing.F) {
	f.Add([]byte(`{"boot_id":"boot","slices":{"user.slice":{"CPUWeight":"100"}},"quiesced":["fstrim.timer"]}`))
	f.Add([]byte(`{"boot_id":"boot","slices":{"user.slice":null},"quiesced":null}`))
	f.Add([]byte(`{"boot_id":"another"}`))
	f.Add([]byte("null"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := OpenSavedState(t.TempDir(), "boot")
		require.NoError(t, os.WriteFile(m.path, data, 0o600))
		value := "200"
		err := m.change(func(n *savedValues) {
			n.set("user.slice", "CPUWeight", &value)
			n.quiesce("fstrim.timer")
		})
		_, readErr := m.read()
		require.Equal(t, err == nil, readErr == nil, "%v, %v", err, readErr)
		if err != nil {
			return
		}
		n, err := m.read()
		require.NoError(t, err)
		require.Equal(t, &value, n.get("user.slice", "CPUWeight"))
		require.Contains(t, n.Quiesced, "fstrim.timer")
	})
}
