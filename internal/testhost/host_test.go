package testhost_test

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
	"github.com/dubnium/dubnium/internal/testhost/sim"
)

const (
	systemd = "org.freedesktop.systemd1"
	manager = systemd + ".Manager"
	login1  = "org.freedesktop.login1"
)

// client is what a user of the bus sees.
type client struct {
	t       *testing.T
	conn    *dbus.Conn
	signals chan *dbus.Signal
}

func connect(t *testing.T, h *testhost.Host) *client {
	t.Helper()
	c := &client{t: t, conn: hosttest.Connect(t, h), signals: make(chan *dbus.Signal, 10000)}
	c.conn.Signal(c.signals)
	for _, sender := range []string{systemd, login1} {
		require.NoError(t, c.conn.AddMatchSignal(dbus.WithMatchSender(sender)))
	}
	return c
}

func (c *client) call(dest, path, method string, args ...any) *dbus.Call {
	return c.conn.Object(dest, dbus.ObjectPath(path)).Call(method, 0, args...)
}

func (c *client) systemd(method string, args ...any) *dbus.Call {
	return c.call(systemd, "/org/freedesktop/systemd1", manager+"."+method, args...)
}

func (c *client) login(method string, args ...any) *dbus.Call {
	return c.call(login1, "/org/freedesktop/login1", login1+".Manager."+method, args...)
}

func (c *client) unit(name, property string) any {
	c.t.Helper()
	v, err := c.conn.Object(systemd, testhost.UnitPath(name)).GetProperty(systemd + ".Unit." + property)
	require.NoError(c.t, err)
	return v.Value()
}

// next waits for a signal and returns everything before it too.
func (c *client) next(member string, match func(*dbus.Signal) bool) []*dbus.Signal {
	c.t.Helper()
	var seen []*dbus.Signal
	timeout := time.After(10 * time.Second)
	for {
		select {
		case s := <-c.signals:
			if strings.HasPrefix(s.Name, "org.freedesktop.DBus.Name") {
				continue // the bus tells a client of its own name
			}
			seen = append(seen, s)
			if strings.HasSuffix(s.Name, "."+member) && (match == nil || match(s)) {
				return seen
			}
		case <-timeout:
			require.FailNow(c.t, "no "+member)
		}
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func errorName(err error) string {
	var e dbus.Error
	errors.As(err, &e)
	return e.Name
}

func TestStartsQuicklyAndLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	start := time.Now()
	h, err := testhost.Start(t.Context(), testhost.Options{})
	require.NoError(t, err)
	t.Logf("started in %s", time.Since(start))
	dir := h.Dir()
	require.Less(t, len(strings.TrimPrefix(h.Address(), "unix:path=")), 160)
	require.NoError(t, h.Close())
	_, err = os.Stat(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond,
		"goroutines are left (one is Eventually's own)")
}

func TestUnitsShowSystemdsProperties(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	require.Equal(t, "active", c.unit("desktop.target", "ActiveState"))
	require.Equal(t, []string{"greetd.service", "display-manager.service"}, c.unit("display-manager.service", "Names"))
	require.Equal(t, true, c.unit("compute.target", "AllowIsolate"))
	require.Equal(t, true, c.unit("session-2.scope", "IgnoreOnIsolate"))
	require.Equal(t, []string{"compute.target"}, c.unit("vllm.service", "WantedBy"))
	require.Equal(t, "not-found", c.unit("nowhere.service", "LoadState"))
	require.Equal(t, []any{uint32(0), dbus.ObjectPath("/")}, c.unit("greetd.service", "Job"))

	var path dbus.ObjectPath
	require.NoError(t, c.systemd("GetUnit", "greetd.service").Store(&path))
	require.Equal(t, dbus.ObjectPath("/org/freedesktop/systemd1/unit/greetd_2eservice"), path)
	require.Equal(t, "org.freedesktop.systemd1.NoSuchUnit", errorName(c.systemd("GetUnit", "nowhere.service").Err))
	v, err := c.conn.Object(systemd, "/org/freedesktop/systemd1").GetProperty(manager + ".SystemState")
	require.NoError(t, err)
	require.Equal(t, "running", v.Value())
	var rows [][]any
	require.NoError(t, c.systemd("ListUnits").Store(&rows))
	require.Greater(t, len(rows), 30)
	require.Len(t, rows[0], 10)
	require.Equal(t, "org.freedesktop.DBus.Error.InvalidArgs", errorName(c.systemd("StartUnit", "a.service").Err))
	require.Equal(t, "org.freedesktop.DBus.Error.UnknownMethod", errorName(c.systemd("Explode").Err))
	require.Equal(
		t, "org.freedesktop.DBus.Error.UnknownObject", errorName(c.call(systemd, "/nowhere", manager+".ListJobs").Err),
	)
}

func TestEveryObjectIntrospectsAndListsItsProperties(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	require.NoError(t, h.Hang("greetd.service"))
	require.NoError(t, c.systemd("StopUnit", "greetd.service", "replace").Err)
	for dest, least := range map[string]int{systemd: 50, login1: 8, "org.freedesktop.PolicyKit1": 4} {
		require.GreaterOrEqual(t, c.walk(dest, ""), least, dest)
	}
}

// walk visits every object as `busctl tree` does, and reads all of it.
func (c *client) walk(dest, path string) int {
	c.t.Helper()
	var text string
	at := cmp.Or(path, "/")
	require.NoError(c.t, c.call(dest, at, "org.freedesktop.DBus.Introspectable.Introspect").Store(&text), path)
	var node struct {
		Interfaces []struct {
			Name string `xml:"name,attr"`
		} `xml:"interface"`
		Nodes []struct {
			Name string `xml:"name,attr"`
		} `xml:"node"`
	}
	require.NoError(c.t, xml.Unmarshal([]byte(text), &node), text)
	count := 1
	for _, i := range node.Interfaces {
		if strings.HasPrefix(i.Name, "org.freedesktop.DBus.") {
			continue
		}
		var all map[string]dbus.Variant
		require.NoError(c.t, c.call(dest, path, "org.freedesktop.DBus.Properties.GetAll", i.Name).Store(&all), path)
	}
	for _, n := range node.Nodes {
		count += c.walk(dest, path+"/"+n.Name)
	}
	return count
}

func TestSignalsComeOnlyToSubscribersAndInSystemdsOrder(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	require.NoError(t, c.systemd("StopUnit", "ssh.service", "replace").Err)
	require.NoError(t, h.WaitUnit(bounded(t), "ssh.service", "inactive"))
	require.NoError(t, c.systemd("Subscribe").Err)
	require.Equal(t, "org.freedesktop.systemd1.AlreadySubscribed", errorName(c.systemd("Subscribe").Err))

	call := c.systemd("StartUnit", "ssh.service", "replace")
	var job dbus.ObjectPath
	require.NoError(t, call.Store(&job))
	seen := c.next("JobRemoved", func(s *dbus.Signal) bool { return s.Body[2] == "ssh.service" })
	first, last := seen[0], seen[len(seen)-1]
	require.Equal(t, manager+".JobNew", first.Name, "nothing was sent before somebody subscribed")
	require.Equal(t, []any{job, "ssh.service", "done"}, last.Body[1:])
	require.Greater(t, last.Sequence, call.ResponseSequence, "the reply comes before JobRemoved")
	states := []string{}
	for _, s := range seen {
		if s.Path == testhost.UnitPath("ssh.service") && s.Body[0] == systemd+".Unit" {
			states = append(states, s.Body[1].(map[string]dbus.Variant)["ActiveState"].Value().(string))
		}
	}
	require.Equal(t, []string{"inactive", "activating", "active", "active"}, states)
	require.NoError(t, c.systemd("Unsubscribe").Err)
	require.Equal(t, "org.freedesktop.systemd1.NotSubscribed", errorName(c.systemd("Unsubscribe").Err))
}

func TestEveryReplyPrecedesItsJobRemoved(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	require.NoError(t, c.systemd("Subscribe").Err)
	for i := range 60 {
		method := []string{"StopUnit", "StartUnit"}[i%2]
		call := c.systemd(method, "ssh.service", "replace")
		var job dbus.ObjectPath
		require.NoError(t, call.Store(&job))
		seen := c.next("JobRemoved", func(s *dbus.Signal) bool { return s.Body[1] == job })
		require.Greater(t, seen[len(seen)-1].Sequence, call.ResponseSequence)
	}
}

func TestModeSwitchEndsTheDesktopAndServesInference(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{HDMIAudio: true})
	c := connect(t, h)
	ctx := bounded(t)
	require.NoError(t, c.systemd("StopUnit", "greetd.service", "replace").Err)
	require.NoError(t, h.WaitUnit(ctx, "greetd.service", "inactive"))
	require.NoError(t, c.login("TerminateSession", "2").Err)
	removed := c.next("SessionRemoved", func(s *dbus.Signal) bool { return s.Body[0] == "2" })
	require.True(t, slices.ContainsFunc(removed, func(s *dbus.Signal) bool {
		return s.Path == testhost.SessionPath("2") && s.Body[1].(map[string]dbus.Variant)["State"].Value() == "closing"
	}), "a session is closing before it is removed")
	require.Empty(t, holders(t, h, "card0"))
	c.next("UserRemoved", nil)
	require.Empty(t, holders(t, h, "controlC0"))

	require.NoError(t, c.systemd("StartUnit", "compute.target", "isolate").Err)
	require.NoError(t, h.WaitUnit(ctx, "vllm.service", "active"))
	require.NoError(t, h.WaitUnit(ctx, "graphical.target", "inactive"))
	require.Equal(t, []string{"vllm"}, holders(t, h, "renderD128"))
	h.VLLM().SetLoad(3, 1)
	require.Contains(t, page(t, h.VLLMURL()+"/metrics"), `vllm:num_requests_running{engine="0",model_name="dubnium/stand-in-8b"} 3.0`)

	require.NoError(t, c.systemd("StartUnit", "desktop.target", "isolate").Err)
	require.NoError(t, h.WaitSession(ctx, "user", true))
	require.NoError(t, h.WaitUnit(ctx, "vllm.service", "inactive"))
	_, err := http.Get(h.VLLMURL() + "/health")
	require.ErrorContains(t, err, "refused")
	require.Contains(t, holders(t, h, "card0"), "sway")
}

func page(t *testing.T, url string) string {
	t.Helper()
	r, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(body)
}

// holders reads the tree as a probe does: by device number, never by name.
func holders(t *testing.T, h *testhost.Host, node string) []string {
	t.Helper()
	class := "drm"
	if strings.HasPrefix(node, "control") {
		class = "sound"
	}
	number, err := os.ReadFile(filepath.Join(h.Root(), "sys/class", class, node, "dev"))
	require.NoError(t, err)
	fds, err := filepath.Glob(filepath.Join(h.Root(), "proc/[0-9]*/fd/*"))
	require.NoError(t, err)
	var out []string
	for _, fd := range fds {
		var st unix.Stat_t
		err := unix.Stat(fd, &st)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its process has ended meanwhile
		}
		require.NoError(t, err)
		if fmt.Sprintf("%d:%d\n", unix.Major(st.Rdev), unix.Minor(st.Rdev)) == string(number) {
			comm, _ := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(fd)), "comm")) // it may have ended by now
			out = append(out, strings.TrimSpace(string(comm)))
		}
	}
	return out
}

func TestTheTreeShowsWhoHoldsTheDisplay(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{SecondGPU: true})
	require.ElementsMatch(t, []string{"systemd", "systemd-logind", "sway"}, holders(t, h, "card0"))
	device, err := filepath.EvalSymlinks(filepath.Join(h.Root(), "sys/class/drm/card0/device"))
	require.NoError(t, err)
	require.Equal(t, "0000:01:00.0", filepath.Base(device))
	vga, err := os.ReadFile(filepath.Join(device, "boot_vga"))
	require.NoError(t, err)
	require.Equal(t, "1\n", string(vga))
	pid := h.AddProcess(testhost.Process{Comm: "ffmpeg", Cgroup: "/system.slice/x.service", Opens: []string{"card1"}})
	require.Equal(t, []string{"ffmpeg"}, holders(t, h, "card1"))
	h.RemoveProcess(pid)
	require.Empty(t, holders(t, h, "card1"))
	stat, err := os.ReadFile(filepath.Join(h.Root(), "proc/1/stat"))
	require.NoError(t, err)
	require.Len(t, strings.Fields(string(stat)), 52, "proc(5)")
}

func TestSessionsCanBeStubborn(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	require.NoError(t, h.EditSession("2", func(s *testhost.Session) { s.IgnoresTerm = true }))
	require.NoError(t, c.login("TerminateSession", "2").Err)
	v, err := c.conn.Object(login1, testhost.SessionPath("2")).GetProperty(login1 + ".Session.State")
	require.NoError(t, err)
	require.Equal(t, "closing", v.Value())
	require.NoError(t, c.login("KillSession", "2", "all", int32(9)).Err)
	c.next("SessionRemoved", func(s *dbus.Signal) bool { return s.Body[0] == "2" })
	require.NoError(t, h.WaitSession(bounded(t), "greeter", true))
	require.Equal(t, "org.freedesktop.login1.NoSuchSession", errorName(c.login("GetSession", "2").Err))
	require.Equal(
		t, "org.freedesktop.login1.NoSessionForPID", errorName(c.login("GetSessionByPID", uint32(os.Getpid())).Err),
	)
}

func TestInhibitorsLiveAsLongAsTheirPipe(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	var fd dbus.UnixFD
	require.NoError(t, c.login("Inhibit", "shutdown", "me", "test", "block").Store(&fd))
	var rows [][]any
	require.NoError(t, c.login("ListInhibitors").Store(&rows))
	require.Equal(t, [][]any{{"shutdown", "me", "test", "block", uint32(os.Getuid()), uint32(os.Getpid())}}, rows)
	require.NoError(t, unix.Close(int(fd)))
	require.Eventually(t, func() bool {
		rows = nil
		return c.login("ListInhibitors").Store(&rows) == nil && len(rows) == 0
	}, 5*time.Second, time.Millisecond)
}

func TestBootingHostsFinishWhenTold(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{Booting: true, DefaultTarget: "graphical.target"})
	c := connect(t, h)
	state := func() any {
		v, err := c.conn.Object(systemd, "/org/freedesktop/systemd1").GetProperty(manager + ".SystemState")
		require.NoError(t, err)
		return v.Value()
	}
	require.Equal(t, "starting", state())
	require.NoError(t, c.systemd("Subscribe").Err)
	require.NoError(t, h.FinishBoot())
	c.next("StartupFinished", nil)
	require.Equal(t, "running", state())
	require.Equal(t, "active", c.unit("graphical.target", "ActiveState"))
	require.Equal(t, "inactive", c.unit("desktop.target", "ActiveState"))
}

func TestSlicePropertiesAreSetOverTheBus(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	c := connect(t, h)
	type setting struct {
		Name  string
		Value dbus.Variant
	}
	require.NoError(t, c.systemd("SetUnitProperties", "ai.slice", true, []setting{
		{"CPUWeight", dbus.MakeVariant(uint64(20))}, {"AllowedCPUs", dbus.MakeVariant([]byte{3})},
	}).Err)
	o := c.conn.Object(systemd, testhost.UnitPath("ai.slice"))
	v, err := o.GetProperty(systemd + ".Slice.CPUWeight")
	require.NoError(t, err)
	require.Equal(t, uint64(20), v.Value())
	v, err = o.GetProperty(systemd + ".Slice.AllowedCPUs")
	require.NoError(t, err)
	require.Equal(t, []byte{3}, v.Value())
}

func TestConcurrentUseIsSafe(t *testing.T) {
	h := hosttest.Start(t, testhost.Options{})
	var done []chan struct{}
	for i := range 4 {
		c := connect(t, h)
		d := make(chan struct{})
		done = append(done, d)
		go func() {
			defer close(d)
			for range 25 {
				_ = c.systemd("Subscribe")
				_ = c.systemd([]string{"StartUnit", "StopUnit"}[i%2], "greetd.service", "replace")
				_ = c.systemd("ListUnits")
				_ = c.login("ListSessions")
				h.Do(func(m *sim.Model) { m.Reload() })
			}
		}()
	}
	for _, d := range done {
		<-d
	}
}
