//go:build !faultpoints

package fault

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestWithoutTheTagThereIsNothing: what is shipped cannot be told to fail.
func TestWithoutTheTagThereIsNothing(t *testing.T) {
	program := filepath.Join(t.TempDir(), "dubniumd")
	out, err := exec.Command("go", "build", "-o", program, "../../cmd/dubniumd").CombinedOutput()
	require.NoError(t, err, string(out))
	symbols, err := exec.Command("go", "tool", "nm", program).Output()
	require.NoError(t, err)
	require.Contains(t, string(symbols), "internal/atomicfile.Write", "the symbols are told")
	assert.NotContains(t, string(symbols), "internal/fault.")
	data, err := os.ReadFile(program)
	require.NoError(t, err)
	assert.NotContains(t, string(data), "DUBNIUM_FAULT")
}
