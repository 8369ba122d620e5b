package sim

import (
	"maps"
	"slices"
	"strings"
)

// displayManager follows the service: a start logs in or greets, a stop takes
// the greeter with it. A user's session outlives it.
func (m *Model) displayManager(state string) {
	switch state {
	case "active":
		m.login.autoLogin = m.cfg.Login.AutoLogin != ""
		m.fillSeat()
	case "inactive", "failed":
		for _, s := range m.login.sessions {
			if s.Class == "greeter" {
				m.after(0, func() { _ = m.TerminateSession(s.ID) })
			}
		}
	}
}

// fillSeat: greetd starts a greeter within a second of the seat being empty.
func (m *Model) fillSeat() {
	if m.login.filling || !m.seatEmpty() {
		return
	}
	m.login.filling = true
	m.after(m.cfg.Login.GreeterTakes, func() {
		m.login.filling = false
		if !m.seatEmpty() {
			return
		}
		who := m.cfg.Login.Greeter
		if m.login.autoLogin {
			m.login.autoLogin = false
			who, _ = m.account(m.cfg.Login.AutoLogin)
		}
		m.openSeat(who)
	})
}

// seatEmpty tells whether a running display manager has nobody to show.
func (m *Model) seatEmpty() bool {
	dm := m.units[m.cfg.Login.DisplayManager]
	return dm != nil && dm.active == "active" &&
		!slices.ContainsFunc(m.login.sessions, func(s *Session) bool { return s.Seat == "seat0" })
}

func (m *Model) account(name string) (UserConfig, bool) {
	for _, u := range m.cfg.Login.Users {
		if u.Name == name {
			return u, true
		}
	}
	return UserConfig{}, false
}

func (m *Model) openSeat(who UserConfig) string {
	s := who.Session
	s.UID, s.User, s.Seat = who.UID, who.Name, "seat0"
	return m.OpenSession(s, who.Programs...)
}

// Login logs a user in at the seat: the greeter, if there is one, makes way.
func (m *Model) Login(name string) (string, error) {
	who, ok := m.account(name)
	if !ok {
		return "", refuse(ErrNoSuchUser, "No user '%s' known", name)
	}
	var greeters []string
	for _, s := range m.login.sessions {
		if s.Class == "greeter" {
			greeters = append(greeters, s.ID)
		}
	}
	id := m.openSeat(who)
	for _, g := range greeters {
		_ = m.Logout(g)
	}
	return id, nil
}

// Sessions lists the sessions in their order of arrival.
func (m *Model) Sessions() []Session {
	out := make([]Session, len(m.login.sessions))
	for i, s := range m.login.sessions {
		out[i] = *s
	}
	return out
}

// Session finds one by its id.
func (m *Model) Session(id string) (Session, error) {
	s, err := m.session(id)
	if err != nil {
		return Session{}, err
	}
	return *s, nil
}

// EditSession changes hints, faults and names of a session.
func (m *Model) EditSession(id string, edit func(*Session)) error {
	s, err := m.session(id)
	if err != nil {
		return err
	}
	edit(s)
	if scope := m.units[s.Scope]; scope != nil {
		scope.fault = s.scopeFault()
	}
	m.holdSeat()
	m.emit(SessionChanged{*s})
	return nil
}

// SessionByPID looks at the process's control group, as logind does, or at what
// AttachPID said of a process of the real machine.
func (m *Model) SessionByPID(pid int) (Session, error) {
	id := m.pidOwner[pid]
	if p := m.procs[pid]; p != nil {
		if _, rest, ok := strings.Cut(p.Cgroup, "/session-"); ok {
			id, _, _ = strings.Cut(rest, ".scope")
		}
	}
	if s, err := m.session(id); err == nil {
		return *s, nil
	}
	return Session{}, refuse(ErrNoSessionForPID, "PID %d does not belong to any known session", pid)
}

// AttachPID says that a process of the real machine, say a test's client,
// belongs to a session.
func (m *Model) AttachPID(pid int, session string) { m.pidOwner[pid] = session }

// Users lists the users.
func (m *Model) Users() []User {
	out := make([]User, len(m.login.users))
	for i, u := range m.login.users {
		out[i] = *u
		for _, s := range m.login.sessions {
			if s.UID != u.UID {
				continue
			}
			out[i].Sessions = append(out[i].Sessions, *s)
			if s.Class == "user" && (s.Type == "wayland" || s.Type == "x11") {
				out[i].Display = *s
			}
		}
	}
	return out
}

// UserByUID finds one.
func (m *Model) UserByUID(uid uint32) (User, error) {
	for _, u := range m.Users() {
		if u.UID == uid {
			return u, nil
		}
	}
	return User{}, refuse(ErrNoSuchUser, "No user '%d' known", uid)
}

// AddInhibitor takes a logind inhibitor and returns a cookie.
func (m *Model) AddInhibitor(i Inhibitor) int {
	m.login.lastCookie++
	m.login.inhibitors[m.login.lastCookie] = i
	m.emit(InhibitorsChanged{})
	return m.login.lastCookie
}

// RemoveInhibitor releases it.
func (m *Model) RemoveInhibitor(cookie int) {
	delete(m.login.inhibitors, cookie)
	m.emit(InhibitorsChanged{})
}

// Inhibitors lists them.
func (m *Model) Inhibitors() []Inhibitor {
	out := make([]Inhibitor, 0, len(m.login.inhibitors))
	for _, cookie := range slices.Sorted(maps.Keys(m.login.inhibitors)) {
		out = append(out, m.login.inhibitors[cookie])
	}
	return out
}

// Prepare announces a shutdown or a sleep, or that it is over.
func (m *Model) Prepare(what string, active bool) {
	m.login.preparing[what] = active
	m.emit(Prepare{what, active})
}

// Preparing says whether the last announcement was that it begins.
func (m *Model) Preparing(what string) bool { return m.login.preparing[what] }
