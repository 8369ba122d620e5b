package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// LoginConfig is who may sit at the machine.
type LoginConfig struct {
	// DisplayManager is the unit that serves the seat; empty: none.
	DisplayManager string
	// AutoLogin is the user whose session starts each time the display manager
	// does; empty: the greeter comes.
	AutoLogin string
	Greeter   UserConfig
	Users     []UserConfig
	// GreeterTakes is how long the display manager needs to fill an empty seat.
	GreeterTakes time.Duration
	// UserStopTakes is logind.conf's UserStopDelaySec.
	UserStopTakes time.Duration
}

// UserConfig is an account, the session that it opens at the seat, and what its
// user manager runs.
type UserConfig struct {
	UID      uint32
	Name     string
	Session  Session
	Programs []Program // in the session's scope
	Services []Program // in user@UID.service, each under its own unit there
}

// Session is a logind session, as its properties show it.
type Session struct {
	ID, User, Class, Type, State string
	UID                          uint32
	Seat, TTY, Display, Desktop  string
	Service, Scope, RemoteHost   string
	VT                           uint32
	Leader                       int
	Remote, IdleHint, LockedHint bool
	Since                        time.Time
	// IgnoresTerm needs KillSession; Stuck stays closing for ever.
	IgnoresTerm, Stuck bool
}

// User is a logged-in user.
type User struct {
	UID      uint32
	Name     string
	State    string // active, closing
	Sessions []Session
	Display  Session // the session that graphical programs belong to, or zero
	Since    time.Time
}

// Inhibitor is one row of ListInhibitors.
type Inhibitor struct {
	What, Who, Why, Mode string
	UID, PID             uint32
}

type loginState struct {
	sessions   []*Session
	users      []*User
	inhibitors map[int]Inhibitor
	preparing  map[string]bool // Shutdown, Sleep
	lastID     int
	lastC      int
	lastCookie int
	autoLogin  bool
	filling    bool
}

func (l *loginState) init() { l.inhibitors, l.preparing = map[int]Inhibitor{}, map[string]bool{} }

// OpenSession registers a session as pam_systemd does: its scope, its leader
// and programs, the user's manager.
func (m *Model) OpenSession(spec Session, programs ...Program) string {
	s := spec
	if s.Class != "manager" {
		m.ensureUser(s.UID, s.User)
	}
	if s.ID == "" {
		s.ID = m.newID(s.Class)
	}
	s.Since, s.State = m.now, "active"
	if s.Class != "manager" {
		s.Leader, s.Scope = m.openScope(&s, programs)
	}
	m.login.sessions = append(m.login.sessions, &s)
	m.holdSeat()
	m.emit(SessionNew{s})
	m.emit(SessionChanged{s})
	return s.ID
}

// openScope starts the session's scope and everything in it.
func (m *Model) openScope(s *Session, programs []Program) (leader int, name string) {
	name = "session-" + s.ID + ".scope"
	slice := fmt.Sprintf("user-%d.slice", s.UID)
	scope := m.declare(Unit{
		Name: name, Slice: slice, Transient: true,
		Description: fmt.Sprintf("Session %s of User %s", s.ID, s.User),
	})
	scope.fault = s.scopeFault()
	m.link()
	m.emit(UnitNew{name})
	m.enter(m.units[slice], "active")
	m.enter(scope, "active")
	leader = s.Leader
	if leader == 0 {
		leader = m.spawn(Program{Comm: s.Service}, scope.cgroup())
	}
	for _, p := range programs {
		p.UID = s.UID
		m.spawn(p, scope.cgroup())
	}
	return leader, name
}

func (s *Session) scopeFault() Fault {
	return Fault{HangStop: s.IgnoresTerm || s.Stuck, Unkillable: s.Stuck}
}

// newID: the audit session's number, or cN for sessions without one.
func (m *Model) newID(class string) string {
	if class == "greeter" {
		m.login.lastC++
		return fmt.Sprintf("c%d", m.login.lastC)
	}
	m.login.lastID++
	return fmt.Sprint(m.login.lastID)
}

// ensureUser starts user@UID.service, whose own session is of class manager
// since systemd 256.
func (m *Model) ensureUser(uid uint32, name string) {
	if i := m.userIndex(uid); i >= 0 {
		m.login.users[i].State = "active"
		return
	}
	u := &User{UID: uid, Name: name, State: "active", Since: m.now}
	m.login.users = append(m.login.users, u)
	m.emit(UserNew{*u})
	manager := fmt.Sprintf("user@%d.service", uid)
	if m.find(manager) == nil {
		return
	}
	_, _ = m.Enqueue(manager, "start", "replace")
	m.OpenSession(Session{UID: uid, User: name, Class: "manager", Type: "unspecified", Service: "systemd-user"})
}

func (m *Model) userIndex(uid uint32) int {
	return slices.IndexFunc(m.login.users, func(u *User) bool { return u.UID == uid })
}

// holdSeat keeps the DRM node of a graphical session open in logind and in PID
// 1's fd store until the session is finalized, as the real ones do.
func (m *Model) holdSeat() {
	var opens []string
	for _, s := range m.login.sessions {
		if s.Seat != "" && (s.Type == "wayland" || s.Type == "x11") {
			opens = []string{"card0"}
		}
	}
	m.setOpens(pidSystemd, opens)
	m.setOpens(pidLogind, opens)
}

func (m *Model) session(id string) (*Session, error) {
	for _, s := range m.login.sessions {
		if s.ID == id {
			return s, nil
		}
	}
	return nil, refuse(ErrNoSuchSession, "No session '%s' known", id)
}

// TerminateSession stops the session's scope. The session is there, closing,
// until the scope is gone (session_stop, src/login/logind-session.c).
func (m *Model) TerminateSession(id string) error {
	s, err := m.session(id)
	if err != nil {
		return err
	}
	if s.State != "closing" {
		s.State = "closing"
		m.emit(SessionChanged{*s})
	}
	if s.Scope != "" {
		_, _ = m.Enqueue(s.Scope, "stop", "replace")
	}
	return nil
}

// KillSession signals the leader, or all of the session.
func (m *Model) KillSession(id, whom string, signal int32) error {
	s, err := m.session(id)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"", "all", "leader"}, whom) {
		return refuse(ErrInvalidArgs, "Invalid parameter '%s' for 'kill whom'", whom)
	}
	if whom != "leader" {
		return m.Kill(s.Scope, signal)
	}
	if signal == sigKill && !s.Stuck {
		m.RemoveProcess(s.Leader)
		m.abandon(s)
	}
	return nil
}

// Logout is an ordinary end: the compositor exits and the session with it.
func (m *Model) Logout(id string) error {
	s, err := m.session(id)
	if err != nil {
		return err
	}
	scope := m.units[s.Scope]
	if s.Stuck || scope == nil {
		m.abandon(s)
		return nil
	}
	m.killGroup(scope.cgroup())
	m.abandon(s)
	return nil
}

// abandon: the leader has gone. An empty scope ends; one that still has
// processes leaves the session closing.
func (m *Model) abandon(s *Session) {
	s.State = "closing"
	m.emit(SessionChanged{*s})
	if scope := m.units[s.Scope]; scope != nil && len(m.members(scope.cgroup())) == 0 {
		m.after(0, func() { m.enter(scope, "inactive") })
	}
}

// loginEntered is logind's and the display manager's reaction to a unit.
func (m *Model) loginEntered(u *unit, state string) {
	if u.Name == m.cfg.Login.DisplayManager {
		m.displayManager(state)
	}
	if !down(u) {
		if name, ok := strings.CutPrefix(u.Name, "user@"); ok && state == "active" {
			m.startUserServices(name, u.cgroup())
		}
		return
	}
	for _, s := range m.login.sessions {
		if s.Scope == u.Name {
			m.after(0, func() { m.finalize(s.ID) })
		}
	}
	if strings.HasPrefix(u.Name, "user@") {
		m.after(0, m.reapUsers)
	}
}

func (m *Model) startUserServices(instance, cgroup string) {
	for _, c := range m.cfg.Login.Users {
		if fmt.Sprintf("%d.service", c.UID) != instance {
			continue
		}
		for _, p := range c.Services {
			p.UID = c.UID
			m.spawn(p, fmt.Sprintf("%s/session.slice/%s.service", cgroup, p.Comm))
		}
	}
}

// finalize removes a session whose scope has gone (session_finalize).
func (m *Model) finalize(id string) {
	i := slices.IndexFunc(m.login.sessions, func(s *Session) bool { return s.ID == id })
	if i < 0 {
		return
	}
	s := m.login.sessions[i]
	m.login.sessions = slices.Delete(m.login.sessions, i, i+1)
	if scope := m.units[s.Scope]; scope != nil && scope.job != nil {
		m.finish(scope.job, "done")
	}
	delete(m.units, s.Scope)
	m.link()
	m.emit(UnitRemoved{s.Scope})
	m.holdSeat()
	m.emit(SessionRemoved{*s})
	m.stopUserLater(s.UID)
	m.fillSeat()
}

// stopUserLater ends the user's manager a while after the last session.
func (m *Model) stopUserLater(uid uint32) {
	i := m.userIndex(uid)
	if i < 0 || m.hasSession(uid) {
		return
	}
	u := m.login.users[i]
	u.State = "closing"
	m.after(m.cfg.Login.UserStopTakes, func() {
		if u.State == "closing" && !m.hasSession(uid) {
			_, _ = m.Enqueue(fmt.Sprintf("user@%d.service", uid), "stop", "replace")
			m.after(0, m.reapUsers)
		}
	})
}

func (m *Model) hasSession(uid uint32) bool {
	return slices.ContainsFunc(m.login.sessions, func(s *Session) bool { return s.UID == uid && s.Class != "manager" })
}

// reapUsers forgets users that are closing and whose manager has stopped.
func (m *Model) reapUsers() {
	for _, u := range slices.Clone(m.login.users) {
		manager := m.units[fmt.Sprintf("user@%d.service", u.UID)]
		if u.State != "closing" || m.hasSession(u.UID) || manager != nil && !idle(manager) {
			continue
		}
		for _, s := range slices.Clone(m.login.sessions) {
			if s.UID == u.UID {
				m.login.sessions = slices.DeleteFunc(m.login.sessions, func(o *Session) bool { return o == s })
				m.emit(SessionRemoved{*s})
			}
		}
		m.login.users = slices.DeleteFunc(m.login.users, func(o *User) bool { return o == u })
		m.emit(UserRemoved{*u})
	}
}
