package testhost_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/internal/vllmstandin"
)

func TestServicesComeBackUnderANewUniqueName(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	owner := func(name string) (unique string) {
		require.NoError(t, c.conn.BusObject().Call("org.freedesktop.DBus.GetNameOwner", 0, name).Store(&unique))
		return unique
	}
	require.NoError(t, c.systemd("Subscribe").Err)
	before := []string{owner(systemd), owner(login1)}
	require.NoError(t, h.RestartSystemd())
	require.NoError(t, h.RestartLogind())
	require.NotEqual(t, before[0], owner(systemd))
	require.NotEqual(t, before[1], owner(login1))
	require.NoError(t, c.systemd("Subscribe").Err, "the old subscription is gone")
	require.Equal(t, "active", c.unit("desktop.target", "ActiveState"))
}

func TestPolkitAnswersAndRemembers(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	type subject struct {
		Kind    string
		Details map[string]dbus.Variant
	}
	check := func() (authorized bool, err error) {
		var result struct {
			Authorized, Challenge bool
			Details               map[string]string
		}
		err = c.call("org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority",
			"org.freedesktop.PolicyKit1.Authority.CheckAuthorization",
			subject{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(c.conn.Names()[0])}},
			"org.dubnium.mode1.request-compute", map[string]string{"k": "v"}, uint32(1), "").Store(&result)
		return result.Authorized, err
	}
	ok, err := check()
	require.NoError(t, err)
	require.True(t, ok)
	h.SetAuthorize(func(context.Context, testhost.PolkitRequest) testhost.PolkitAnswer { return testhost.PolkitAnswer{} })
	ok, err = check()
	require.NoError(t, err)
	require.False(t, ok)
	require.Len(t, h.PolkitRequests(), 2)
	r := h.PolkitRequests()[0]
	require.Equal(t, c.conn.Names()[0], r.BusName)
	require.Equal(t, "org.dubnium.mode1.request-compute", r.Action)
	require.Equal(t, uint32(1), r.Flags)
}

func TestProbesAreStartedForEachConnection(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{
		ProbeCommand: []string{"/bin/sh", "-c", `read line; echo "$line $0 $*"`},
		ProbeArgs:    map[string][]string{"inference": {"--url", "x"}},
	})
	ask := func(name string) (string, error) { return dial(t, filepath.Join(h.ProbeDir(), name), "hello\n") }
	for range 2 {
		answer, err := ask("holders")
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("hello holders --proc %[1]s/proc --sys %[1]s/sys\n", h.Root()), answer)
	}
	answer, err := ask("inference")
	require.NoError(t, err)
	require.Equal(t, "hello inference --url x\n", answer)

	require.NoError(t, h.SetProbeFault("holders", testhost.ProbeRefuses))
	_, err = ask("holders")
	require.ErrorContains(t, err, "refused")
	require.NoError(t, h.SetProbeFault("holders", testhost.ProbeEOF))
	answer, err = ask("holders")
	require.NoError(t, err)
	require.Equal(t, `{"version":1,"hol`, answer)
	require.NoError(t, h.SetProbeFault("holders", testhost.ProbeWorks))
	_, err = ask("holders")
	require.NoError(t, err)
}

func TestAHangingProbeEndsWithTheHost(t *testing.T) {
	h, err := testhost.Start(
		t.Context(), testhost.Options{ProbeCommand: []string{"/bin/sh", "-c", "echo $$; exec sleep 600"}},
	)
	require.NoError(t, err)
	conn, err := net.Dial("unix", filepath.Join(h.ProbeDir(), "holders"))
	require.NoError(t, err)
	defer conn.Close()
	var pid int
	_, err = fmt.Fscan(conn, &pid)
	require.NoError(t, err)
	require.NoError(t, unix.Kill(pid, 0))
	require.NoError(t, h.Close())
	require.ErrorIs(t, unix.Kill(pid, 0), unix.ESRCH)
}

func TestVLLMMayNeverGetHealthy(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{VLLM: vllmstandin.Options{NeverHealthy: true}})
	require.NoError(t, h.StartUnit("vllm.service", "replace"))
	require.NoError(t, h.WaitUnit(bounded(t), "vllm.service", "active"))
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(h.VLLMURL() + "/health")
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, r.StatusCode)
}

func TestAStrictBusReadsThePolicyOfTheProject(t *testing.T) {
	dir := t.TempDir()
	own := func(c *dbus.Conn) error {
		_, err := c.RequestName("org.dubnium.Mode1", dbus.NameFlagDoNotQueue)
		return err
	}
	strict := hosttest.Start(t, testhost.Options{PolicyDirs: []string{dir}})
	require.Equal(t, "org.freedesktop.DBus.Error.AccessDenied", errorName(own(hosttest.Connect(t, strict))))
	policy := fmt.Sprintf(`<busconfig><policy user="%d"><allow own="org.dubnium.Mode1"/></policy></busconfig>`, os.Getuid())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "dubnium.conf"), []byte(policy), 0o644))
	open := hosttest.Start(t, testhost.Options{PolicyDirs: []string{dir}})
	require.NoError(t, own(hosttest.Connect(t, open)))
	require.NoError(t, connect(t, open).systemd("ListJobs").Err)
}

func TestTheMachinesOwnBusAndStateAreRefused(t *testing.T) {
	dir := t.TempDir()
	require.Error(t, testhost.RefuseRealBus(""))
	require.Error(t, testhost.RefuseRealBus("unix:path=/run/dbus/system_bus_socket"))
	require.Error(t, testhost.RefuseRealBus("unix:path=/var/run/dbus/../dbus/system_bus_socket,guid=1"))
	require.Error(t, testhost.RefuseRealBus("unix:path="+dir+"/bus", "/run/mode-controller/desired"))
	require.Error(t, testhost.RefuseRealBus("unix:path="+dir+"/bus", "/var/lib/mode-controller"))
	require.NoError(t, testhost.RefuseRealBus("unix:path="+dir+"/bus", dir))
}
