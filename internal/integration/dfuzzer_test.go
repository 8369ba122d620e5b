//go:build integration && dfuzzer

package integration

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/embedded"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
)

// A fuzzer that is not ours calls whatever the daemon says that it serves, as root, whom
// nothing is refused, and as somebody else.
func TestDfuzzerFindsNothing(t *testing.T) {
	for name, uid := range map[string]uint32{"as root": 0, "as nobody": nobody} {
		t.Run(name, func(t *testing.T) {
			ctx := lasting(t, 10*time.Minute)
			w := startFor(ctx, t, embedded.Options{Host: testhost.Options{PolicyDirs: installedPolicy(t)}})
			fuzzer := exec.CommandContext(ctx, "dfuzzer", "--no-suppressions",
				"--bus="+busapi.BusName, "--object="+string(busapi.Path))
			fuzzer.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+w.Address(),
				"DBUS_SESSION_BUS_ADDRESS=unix:path=/nowhere") // where it looks first
			a := run(t, as(uid, fuzzer))
			require.Zero(t, a.code)

			var pid uint32
			bus := hosttest.Connect(t, w.Host).BusObject()
			err := bus.Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, busapi.BusName).Store(&pid)
			require.NoError(t, err)
			require.EqualValues(t, w.DaemonPID(), pid)
			require.Equal(t, "desktop\n", modectl(t, w, "current", "--refresh").stdout)
		})
	}
}
