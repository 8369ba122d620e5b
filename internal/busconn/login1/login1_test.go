package login1_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/internal/busconn/bustest"
	"github.com/dubnium/dubnium/internal/busconn/login1"
)

const (
	manager = login1.Name + ".Manager"
	root    = dbus.ObjectPath("/org/freedesktop/login1")
)

// fake is a logind that says what a test wants.
type fake struct {
	mu       sync.Mutex
	sessions map[string]map[string]dbus.Variant
	refusal  *dbus.Error // of what is asked of a session
}

type row struct {
	ID   string
	UID  uint32
	User string
	Seat string
	Path dbus.ObjectPath
}

func newFake(t *testing.T) (*fake, *login1.Client) {
	t.Helper()
	address := bustest.Start(t)
	f := &fake{sessions: map[string]map[string]dbus.Variant{}}
	conn := bustest.Peer(t, address)
	require.NoError(t, conn.Export(f, root, manager))
	require.NoError(t, conn.ExportSubtree(session{f}, root, "org.freedesktop.DBus.Properties"))
	bustest.Own(t, conn, login1.Name)
	return f, login1.New(bustest.Connect(t, address))
}

func (f *fake) ListSessions() ([]row, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows := []row{}
	for id := range f.sessions {
		rows = append(rows, row{ID: id, Path: root + "/session/" + dbus.ObjectPath(id)})
	}
	return rows, nil
}

func (f *fake) TerminateSession(string) *dbus.Error { return f.refuse() }

func (f *fake) KillSession(string, string, int32) *dbus.Error { return f.refuse() }

func (f *fake) refuse() *dbus.Error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusal
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

type session struct{ f *fake }

func (s session) GetAll(msg dbus.Message, _ string) (map[string]dbus.Variant, *dbus.Error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	path, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	p := s.f.sessions[string(path[len(root+"/session/"):])]
	if p == nil {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownObject", []any{"Unknown object."})
	}
	return p, nil
}

type numbered struct {
	UID  uint32
	Path dbus.ObjectPath
}

type named struct {
	Name string
	Path dbus.ObjectPath
}

func properties(id string) map[string]dbus.Variant {
	return map[string]dbus.Variant{
		"Id": dbus.MakeVariant(id), "User": dbus.MakeVariant(numbered{1000, "/"}), "Name": dbus.MakeVariant("alice"),
		"Class": dbus.MakeVariant("user-wonderful"), "Type": dbus.MakeVariant("wayland"),
		"State": dbus.MakeVariant("active"),
		"Seat":  dbus.MakeVariant(named{"seat0", "/"}), "Scope": dbus.MakeVariant("session-1.scope"),
		"Service": dbus.MakeVariant("greetd"), "Leader": dbus.MakeVariant(uint32(400)),
		"Remote":     dbus.MakeVariant(false),
		"LockedHint": dbus.MakeVariant(false), "IdleHint": dbus.MakeVariant(true),
		"Timestamp": dbus.MakeVariant(uint64(1_800_000_000_000_000)),
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestASessionThatEndedSinceItWasListedIsGone(t *testing.T) {
	f, c := newFake(t)
	f.set(func() { f.sessions["1"], f.sessions["2"] = properties("1"), nil })
	sessions, err := c.Sessions(bounded(t))
	require.NoError(t, err)
	require.Len(t, sessions, 1)
	require.Equal(t, "1", sessions[0].ID)
	require.Equal(t, "user-wonderful", sessions[0].Class, "a class of a newer logind is handed on")
}

func TestASessionThatAnswersOtherwiseIsAnError(t *testing.T) {
	f, c := newFake(t)
	for property := range properties("1") {
		f.set(func() {
			f.sessions["1"] = properties("1")
			delete(f.sessions["1"], property)
		})
		_, err := c.Sessions(bounded(t))
		require.ErrorContains(t, err, "cannot read session 1: the property "+property)
	}
}

func TestToEndWhatIsGoneIsFine(t *testing.T) {
	f, c := newFake(t)
	f.set(func() { f.refusal = dbus.NewError(login1.Name+".NoSuchSession", []any{"No session '9' known"}) })
	require.NoError(t, c.Terminate(bounded(t), "9"))
	require.NoError(t, c.Kill(bounded(t), "9", 9))
	f.set(func() {
		f.refusal = dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"Permission denied"})
	})
	require.EqualError(t, c.Terminate(bounded(t), "9"), "Permission denied")
	require.EqualError(t, c.Kill(bounded(t), "9", 9), "Permission denied")
}
