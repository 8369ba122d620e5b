package errtext

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestErrorsSpeakOfTheHost(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	_, readErr := os.ReadFile(missing)
	_, dialErr := net.Dial("unix", missing)
	_, lookErr := exec.LookPath("no-such-program-here")
	for want, err := range map[string]error{
		"":                                      nil,
		missing + ": no such file or directory": readErr,
		"no such command":                       lookErr,
		"no answer in time":                     fmt.Errorf("cannot read: %w", context.DeadlineExceeded),
		"interrupted":                           context.Canceled,
		"the policy is empty":                   errors.New("the policy is empty"),
	} {
		assert.Equal(t, want, Of(err))
	}
	assert.Equal(t, missing+": no such file or directory", Of(fmt.Errorf("cannot connect: %w", dialErr)))
}
