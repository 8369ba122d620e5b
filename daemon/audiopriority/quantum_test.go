package audiopriority_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/daemon/audiopriority"
)

// What unexpected output of pw-metadata is believed only where it is a number.
func TestAQuantumThatIsNoNumberIsRefused(t *testing.T) {
	for name, value := range map[string]string{
		"a word": "value:'many'", "none": "value:''", "a sign": "value:'+64'", "less than none": "value:'-1'",
		"too large": "value:'99999999999999999999'", "half a line": "value:'64", "another key": "type:''",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			says := filepath.Join(dir, "says")
			line := "update: id:0 key:'clock.force-quantum' " + value + "\n"
			require.NoError(t, os.WriteFile(says, []byte(line), 0o600))
			command := filepath.Join(dir, "pw-metadata")
			require.NoError(t, os.WriteFile(command, []byte("#!/bin/sh\ncat '"+says+"'\n"), 0o700))
			q := audiopriority.Quantum{Command: command, Note: filepath.Join(dir, "before.json")}
			err := q.Hold(t.Context(), 64, func() error {
				require.Fail(t, "it is ready without having read the quantum")
				return nil
			})
			require.ErrorContains(t, err, "cannot read PipeWire's quantum: unexpected output of pw-metadata")
			require.NoFileExists(t, q.Note)
		})
	}
}
