package testhost

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/internal/testhost/sim"
)

const (
	loginName        = "org.freedesktop.login1"
	loginInterface   = loginName + ".Manager"
	sessionInterface = loginName + ".Session"
	userInterface    = loginName + ".User"
	seatInterface    = loginName + ".Seat"
)

// login is org.freedesktop.login1 (man 5 org.freedesktop.login1).
type login struct{ service }

func newLogin(h *Host) *login {
	l := &login{}
	l.service = service{host: h, name: loginName, root: loginPath, lookup: l.find, children: l.list}
	return l
}

func (l *login) find(at dbus.ObjectPath) *object {
	m := l.host.model
	if at == loginPath {
		return &object{
			methods: map[string]methods{loginInterface: l.manager()},
			props:   map[string]map[string]any{loginInterface: loginProperties(m)},
		}
	}
	if id, ok := leaf(at, loginPath+"/session"); ok {
		if s, err := m.Session(id); err == nil {
			return &object{
				methods: map[string]methods{sessionInterface: sessionMethods(id)},
				props:   map[string]map[string]any{sessionInterface: sessionProperties(s)},
			}
		}
	}
	if uid, ok := strings.CutPrefix(string(at), loginPath+"/user/_"); ok {
		n, _ := strconv.ParseUint(uid, 10, 32)
		if u, err := m.UserByUID(uint32(n)); err == nil {
			return &object{props: map[string]map[string]any{userInterface: userProperties(u)}}
		}
	}
	if seat, ok := leaf(at, loginPath+"/seat"); ok && seat == "seat0" {
		return &object{props: map[string]map[string]any{seatInterface: seatProperties(m)}}
	}
	return nil
}

func (l *login) list(at dbus.ObjectPath) []string {
	var out []string
	switch at {
	case loginPath:
		return []string{"session", "user", "seat"}
	case loginPath + "/session":
		for _, s := range l.host.model.Sessions() {
			out = append(out, escapeLabel(s.ID))
		}
	case loginPath + "/user":
		for _, u := range l.host.model.Users() {
			out = append(out, fmt.Sprintf("_%d", u.UID))
		}
	case loginPath + "/seat":
		return []string{"seat0"}
	}
	return out
}

func (l *login) manager() methods {
	return methods{
		"ListSessions":   {out: "a(susso)", call: listSessions},
		"ListSessionsEx": {out: "a(sussussbto)", call: listSessionsEx},
		"ListUsers":      {out: "a(uso)", call: listUsers},
		"ListSeats": {
			out: "a(so)", call: func(*call) ([]any, error) { return []any{[]reference{{"seat0", seatPath("seat0")}}}, nil },
		},
		"ListInhibitors": {
			out: "a(ssssuu)", call: func(c *call) ([]any, error) { return []any{c.model.Inhibitors()}, nil },
		},
		"GetSession":       {in: "s", out: "o", call: getSession},
		"GetSessionByPID":  {in: "u", out: "o", call: getSessionByPID},
		"GetUser":          {in: "u", out: "o", call: getUser},
		"TerminateSession": {in: "s", call: func(c *call) ([]any, error) { return nil, c.model.TerminateSession(c.str(0)) }},
		"KillSession": {
			in: "ssi", call: func(c *call) ([]any, error) { return nil, c.model.KillSession(c.str(0), c.str(1), c.i32(2)) },
		},
		"LockSession":   {in: "s", call: func(c *call) ([]any, error) { return nil, lock(c, c.str(0), true) }},
		"UnlockSession": {in: "s", call: func(c *call) ([]any, error) { return nil, lock(c, c.str(0), false) }},
		"Inhibit":       {in: "ssss", out: "h", call: inhibit, unlocked: true},
	}
}

func sessionMethods(id string) methods {
	return methods{
		"Terminate": {call: func(c *call) ([]any, error) { return nil, c.model.TerminateSession(id) }},
		"Kill": {
			in: "si", call: func(c *call) ([]any, error) { return nil, c.model.KillSession(id, c.str(0), c.i32(1)) },
		},
		"Lock":          {call: func(c *call) ([]any, error) { return nil, lock(c, id, true) }},
		"Unlock":        {call: func(c *call) ([]any, error) { return nil, lock(c, id, false) }},
		"SetLockedHint": {in: "b", call: func(c *call) ([]any, error) { return nil, lock(c, id, c.bool(0)) }},
		"SetIdleHint": {in: "b", call: func(c *call) ([]any, error) {
			return nil, c.model.EditSession(id, func(s *sim.Session) { s.IdleHint = c.bool(0) })
		}},
	}
}

func lock(c *call, id string, locked bool) error {
	return c.model.EditSession(id, func(s *sim.Session) { s.LockedHint = locked })
}

func listSessions(c *call) ([]any, error) {
	type row struct {
		ID   string
		UID  uint32
		User string
		Seat string
		Path dbus.ObjectPath
	}
	rows := []row{}
	for _, s := range c.model.Sessions() {
		rows = append(rows, row{s.ID, s.UID, s.User, s.Seat, SessionPath(s.ID)})
	}
	return []any{rows}, nil
}

func listSessionsEx(c *call) ([]any, error) {
	type row struct {
		ID         string
		UID        uint32
		User, Seat string
		Leader     uint32
		Class, TTY string
		Idle       bool
		IdleSince  uint64
		Path       dbus.ObjectPath
	}
	rows := []row{}
	for _, s := range c.model.Sessions() {
		rows = append(
			rows, row{s.ID, s.UID, s.User, s.Seat, uint32(s.Leader), s.Class, s.TTY, s.IdleHint, 0, SessionPath(s.ID)},
		)
	}
	return []any{rows}, nil
}

func listUsers(c *call) ([]any, error) {
	type row struct {
		UID  uint32
		Name string
		Path dbus.ObjectPath
	}
	rows := []row{}
	for _, u := range c.model.Users() {
		rows = append(rows, row{u.UID, u.Name, userPath(u.UID)})
	}
	return []any{rows}, nil
}

func getSession(c *call) ([]any, error) {
	s, err := c.model.Session(c.str(0))
	if err != nil {
		return nil, err
	}
	return []any{SessionPath(s.ID)}, nil
}

func getSessionByPID(c *call) ([]any, error) {
	s, err := c.model.SessionByPID(int(c.u32(0)))
	if err != nil {
		return nil, err
	}
	return []any{SessionPath(s.ID)}, nil
}

func getUser(c *call) ([]any, error) {
	u, err := c.model.UserByUID(c.u32(0))
	if err != nil {
		return nil, err
	}
	return []any{userPath(u.UID)}, nil
}

// inhibit gives one end of a pipe away; the lock lives until that is closed.
func inhibit(c *call) ([]any, error) {
	i := sim.Inhibitor{What: c.str(0), Who: c.str(1), Why: c.str(2), Mode: c.str(3)}
	bus := c.conn.BusObject()
	if err := bus.Call("org.freedesktop.DBus.GetConnectionUnixUser", 0, c.sender).Store(&i.UID); err != nil {
		return nil, fmt.Errorf("cannot tell who inhibits: %w", err)
	}
	if err := bus.Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, c.sender).Store(&i.PID); err != nil {
		return nil, fmt.Errorf("cannot tell who inhibits: %w", err)
	}
	ends := make([]int, 2)
	if err := unix.Pipe2(ends, unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	h := c.svc.host
	var cookie int
	h.Do(func(m *sim.Model) { cookie = m.AddInhibitor(i) })
	c.sent = func() { _ = unix.Close(ends[1]) } // the bus has its own copy now
	h.watch(os.NewFile(uintptr(ends[0]), "inhibitor"), func(m *sim.Model) { m.RemoveInhibitor(cookie) })
	return []any{dbus.UnixFD(ends[1])}, nil
}

func loginProperties(m *sim.Model) map[string]any {
	return map[string]any{
		"NCurrentSessions": uint64(len(m.Sessions())), "NCurrentInhibitors": uint64(len(m.Inhibitors())),
		"InhibitDelayMaxUSec": uint64(5_000_000), "UserStopDelayUSec": uint64(10_000_000),
		"KillUserProcesses": false, "PreparingForShutdown": m.Preparing("Shutdown"), "PreparingForSleep": m.Preparing("Sleep"),
		"IdleHint": false, "BlockInhibited": inhibited(m, "block"), "DelayInhibited": inhibited(m, "delay"), "IdleAction": "ignore",
	}
}

// inhibited joins what is inhibited in that mode.
func inhibited(m *sim.Model, mode string) string {
	var what []string
	for _, i := range m.Inhibitors() {
		if i.Mode == mode {
			what = append(what, i.What)
		}
	}
	return strings.Join(what, ":")
}

type userReference struct {
	UID  uint32
	Path dbus.ObjectPath
}

func sessionProperties(s sim.Session) map[string]any {
	since := uint64(s.Since.UnixMicro())
	return map[string]any{
		"Id": s.ID, "User": userReference{s.UID, userPath(s.UID)}, "Name": s.User,
		"Timestamp": since, "TimestampMonotonic": since, "VTNr": s.VT, "Seat": reference{s.Seat, seatPath(s.Seat)},
		"TTY": s.TTY, "Display": s.Display, "Remote": s.Remote, "RemoteHost": s.RemoteHost, "RemoteUser": "",
		"Service": s.Service, "Desktop": s.Desktop, "Scope": s.Scope, "Leader": uint32(s.Leader), "Audit": uint32(0),
		"Type": s.Type, "Class": s.Class, "Active": s.State == "active", "State": s.State,
		"IdleHint": s.IdleHint, "IdleSinceHint": uint64(0), "IdleSinceHintMonotonic": uint64(0),
		"CanIdle": true, "CanLock": true, "LockedHint": s.LockedHint,
	}
}

func userProperties(u sim.User) map[string]any {
	sessions := []reference{}
	for _, s := range u.Sessions {
		sessions = append(sessions, reference{s.ID, SessionPath(s.ID)})
	}
	display := reference{"", noPath}
	if u.Display.ID != "" {
		display = reference{u.Display.ID, SessionPath(u.Display.ID)}
	}
	return map[string]any{
		"UID": u.UID, "GID": u.UID, "Name": u.Name, "Timestamp": uint64(u.Since.UnixMicro()),
		"RuntimePath": fmt.Sprintf("/run/user/%d", u.UID), "Service": fmt.Sprintf("user@%d.service", u.UID),
		"Slice": fmt.Sprintf("user-%d.slice", u.UID), "Display": display, "State": u.State,
		"Sessions": sessions, "IdleHint": false, "Linger": false,
	}
}

func seatProperties(m *sim.Model) map[string]any {
	sessions, active := []reference{}, reference{"", noPath}
	for _, s := range m.Sessions() {
		if s.Seat == "seat0" {
			r := reference{s.ID, SessionPath(s.ID)}
			sessions = append(sessions, r)
			if s.State == "active" {
				active = r
			}
		}
	}
	return map[string]any{
		"Id": "seat0", "ActiveSession": active, "Sessions": sessions, "CanTTY": true, "CanGraphical": true, "IdleHint": false,
	}
}

// event sends logind's signals, which need no subscription.
func (l *login) event(e sim.Event) {
	switch e := e.(type) {
	case sim.SessionNew:
		l.emit(loginPath, loginInterface+".SessionNew", e.Session.ID, SessionPath(e.Session.ID))
	case sim.SessionRemoved:
		l.emit(loginPath, loginInterface+".SessionRemoved", e.Session.ID, SessionPath(e.Session.ID))
	case sim.SessionChanged:
		p := sessionProperties(e.Session)
		l.changed(SessionPath(e.Session.ID), sessionInterface, map[string]any{
			"Active": p["Active"], "State": p["State"], "IdleHint": p["IdleHint"], "LockedHint": p["LockedHint"],
			"Type": p["Type"],
		})
	case sim.UserNew:
		l.emit(loginPath, loginInterface+".UserNew", e.User.UID, userPath(e.User.UID))
	case sim.UserRemoved:
		l.emit(loginPath, loginInterface+".UserRemoved", e.User.UID, userPath(e.User.UID))
	case sim.InhibitorsChanged:
		p := loginProperties(l.host.model)
		l.changed(loginPath, loginInterface, map[string]any{
			"BlockInhibited": p["BlockInhibited"], "DelayInhibited": p["DelayInhibited"],
		})
	case sim.Prepare:
		l.emit(loginPath, loginInterface+".PrepareFor"+e.What, e.Active)
	}
}
