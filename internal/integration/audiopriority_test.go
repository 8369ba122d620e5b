//go:build integration

package integration

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// profileHolders hears who holds the power profile, as power-profiles-daemon does.
type profileHolders struct{ held chan dbus.Sender }

func (p profileHolders) HoldProfile(_, _, _ string, who dbus.Sender) (uint32, *dbus.Error) {
	p.held <- who
	return 1, nil
}

func (p profileHolders) Get(_, _ string) (dbus.Variant, *dbus.Error) {
	return dbus.MakeVariant([]map[string]dbus.Variant{{"Profile": dbus.MakeVariant("performance")}}), nil
}

// The helper as its unit runs it: it reads the policy in force, says that it is
// ready when all is held, and when it is killed the bus knows that it has gone, by
// which a power profile falls back.
func TestTheHelperOfAudioPriorityHoldsAndIsKilled(t *testing.T) {
	w := start(t, testhost.Options{}, func(p *policy.Policy) { p.Studio.CPUDMALatency, p.Studio.Quantum = 5, 128 })
	conn, err := dbus.Connect(w.Address())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	const name, path = "org.freedesktop.UPower.PowerProfiles", "/org/freedesktop/UPower/PowerProfiles"
	profiles := profileHolders{make(chan dbus.Sender, 1)}
	require.NoError(t, conn.Export(profiles, path, name))
	require.NoError(t, conn.Export(profiles, path, "org.freedesktop.DBus.Properties"))
	_, err = conn.RequestName(name, dbus.NameFlagDoNotQueue)
	require.NoError(t, err)

	device, socket := filepath.Join(t.TempDir(), "cpu_dma_latency"), filepath.Join(w.Dir(), "audio-notify")
	require.NoError(t, os.WriteFile(device, nil, 0o600))
	told, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { told.Close() })
	helper := w.Program(
		bounded(t), "dubniumd", "audio-priority", "--policy", filepath.Join(w.Policy.Paths.Runtime, "policy.toml"),
		"--device", device,
	)
	helper.Env = append(helper.Env, "NOTIFY_SOCKET="+socket)
	helper.Stderr = t.Output()
	require.NoError(t, helper.Start())
	message := make([]byte, 4096)
	require.NoError(t, told.SetReadDeadline(time.Now().Add(patience)))
	n, err := told.Read(message)
	require.NoError(t, err)
	require.Contains(t, string(message[:n]), "READY=1")
	require.True(t, strings.HasSuffix(string(message[:n]),
		"held: CPU latency 5 µs, power profile performance, quantum 128 for uids [1000]"), string(message[:n]))
	latency, err := os.ReadFile(device)
	require.NoError(t, err)
	require.Equal(t, []byte{5, 0, 0, 0}, latency)
	require.NoError(t, w.WaitUnit(bounded(t), "dubnium-quantum@1000.service", "active"))

	holder := string(<-profiles.held)
	gone := make(chan *dbus.Signal, 16)
	conn.Signal(gone)
	require.NoError(
		t,
		conn.AddMatchSignal(
			dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, holder),
		),
	)
	require.NoError(t, helper.Process.Kill())
	require.Error(t, helper.Wait(), "it was killed")
	timeout := time.After(patience)
	for {
		select {
		case s := <-gone:
			if s.Name == "org.freedesktop.DBus.NameOwnerChanged" && s.Body[0] == holder && s.Body[2] == "" {
				return
			}
		case <-timeout:
			require.FailNow(t, "the bus still knows it")
		}
	}
}
