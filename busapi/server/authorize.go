package server

import (
	"context"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

// maxPrompts bounds how many requests of one user wait for a password. The bus
// lets a connection wait for 128 replies; without a bound one user could use
// them all up, and the daemon could talk to nobody.
const (
	maxPrompts = 4
	// maxPromptsOfAll leaves replies for the question whose a connection is.
	maxPromptsOfAll = 64
)

// details are what polkit's prompt may say beside the action's own words.
type details = map[string]string

// need is a right that a call needs. why says it in the refusal, where the method's name
// does not.
type need struct {
	action  string
	details details
	why     string
}

// authorize returns the request with who asks and by what right, or refuses. The host
// may change while somebody is asked for a password, and the request need more then.
func (s *Server) authorize(c *call, r status.Request) (status.Request, error) {
	r.Origin, r.By, r.UID = status.OriginOperator, describe(c.uid), c.uid
	var granted []string
	for {
		needs, others, leaves := s.needs(c.uid, r)
		r.EndOthers, r.LeaveCompute = c.uid == 0 || others, leaves
		needs = slices.DeleteFunc(needs, func(n need) bool { return slices.Contains(granted, n.action) })
		if len(needs) == 0 {
			r.Authorization = status.ByPolkit(granted...)
			return r, nil
		}
		right, err := s.permit(c, needs...)
		if err != nil || c.uid == 0 {
			r.Authorization = right
			return r, err
		}
		for _, n := range needs {
			granted = append(granted, n.action)
		}
	}
}

// needs lists the rights that a request needs by what is known now, and whether they
// include to end other people's sessions and to leave compute. What begins later is
// judged before the point of no return.
func (s *Server) needs(uid uint32, r status.Request) (needs []need, others, leaves bool) {
	view := s.controller.View()
	action, about := busapi.ActionRequest(r.Mode), details{"mode": string(r.Mode)}
	if len(r.Skip) > 0 {
		names := make([]string, len(r.Skip))
		for i, id := range r.Skip {
			names[i] = string(id)
		}
		action, about["guards"] = busapi.ActionForce, strings.Join(names, ", ")
	}
	needs = []need{{action: action, details: about}}
	add := func(n need) {
		if !slices.ContainsFunc(needs, func(other need) bool { return other.action == n.action }) {
			needs = append(needs, n)
		}
	}
	if names := s.sessionsOfOthers(uid); r.Mode == policy.Compute && len(names) > 0 {
		others = true
		add(need{
			action: busapi.ActionEndOtherSessions, details: details{
				"mode": string(r.Mode), "sessions": strings.Join(names, ", "),
			},
			why: "compute would end other people's sessions",
		})
	}
	// A request for desktop that is not forced has asked for this right already.
	leaves = observer.LeavesCompute(view.Policy.Policy, view.Snapshot, r.Mode)
	if leaves {
		add(
			need{
				action: busapi.ActionRequest(policy.Desktop), details: details{"mode": string(r.Mode)}, why: "this leaves compute",
			},
		)
	}
	back := view.WayBack(r.Mode)
	if why := endsTerms(view, uid, r, back); why != "" {
		add(need{action: busapi.ActionRequest(back), details: details{"mode": string(back)}, why: why})
	}
	return needs, others, leaves
}

// endsTerms says how a request ends what another user may have asked for; empty for not
// at all. A request ends the terms that its mode is on, and terms end the mode that is
// there already.
func endsTerms(view status.View, uid uint32, r status.Request, back policy.Mode) (why string) {
	lease, terms := view.Lease, r.Terms != (status.Terms{})
	leased := lease != nil && lease.Mode == r.Mode
	switch {
	case leased && lease.UID == uid:
		return ""
	case terms && (leased || view.Observation.Inferred != back):
		return fmt.Sprintf("the host would be taken to %s at the end", back)
	case leased && !r.KeepTerms:
		return "this ends the terms of " + lease.By
	}
	return ""
}

// permit returns by what right a call goes on, once polkit has granted all that it needs.
// uid 0 is allowed by its bus credentials alone: a broken polkit must not lock the
// operator out of the way back.
func (s *Server) permit(c *call, needs ...need) (right string, err error) {
	if c.uid == 0 {
		return status.ByCredentials, nil
	}
	if !s.prompts.enter(c.uid) {
		return "", busapi.Refuse(
			status.ErrTooMany, "too many requests wait for authorization, %d at most of one user", maxPrompts,
		)
	}
	defer s.prompts.leave(c.uid)
	ctx, cancel := context.WithTimeout(c.ctx, authTimeout)
	defer cancel()
	var actions []string
	for _, n := range needs {
		err := s.authorizer.Authorize(ctx, c.sender, n.action, n.details, c.interactive)
		if err != nil && n.why != "" {
			err = fmt.Errorf("%s: %w", n.why, err)
		}
		if err != nil {
			return "", err
		}
		actions = append(actions, n.action)
	}
	return status.ByPolkit(actions...), s.stillThere(ctx, c.sender)
}

// sessionsOfOthers names the users other than uid who have a graphical session now.
func (s *Server) sessionsOfOthers(uid uint32) []string {
	var names []string
	for _, session := range s.controller.View().Snapshot.Logind.Graphical() {
		if session.UID != uid && !slices.Contains(names, session.User) {
			names = append(names, session.User)
		}
	}
	return names
}

// atScreen reports whether a user has a graphical session now.
func (s *Server) atScreen(uid uint32) bool {
	return slices.ContainsFunc(
		s.controller.View().Snapshot.Logind.Graphical(), func(session observer.Session) bool { return session.UID == uid },
	)
}

// stillThere refuses a requester who left while somebody was asked: nobody would
// hear the answer. Unique names are never used twice, so the name alone decides.
func (s *Server) stillThere(ctx context.Context, sender string) error {
	if _, err := s.authorizer.UID(ctx, sender); err != nil {
		return senderUnknown(err)
	}
	return nil
}

func senderUnknown(err error) error {
	return busapi.Refuse(busapi.ErrAccessDenied, "cannot tell who asks: %v", err)
}

// describe names a user for people. The name is a help only, so a user database
// that cannot answer costs the name and nothing else.
func describe(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("uid %s (%s)", id, u.Username)
	}
	return "uid " + id
}

// inFlight bounds how many calls of one user, and of all, are under way.
type inFlight struct {
	ofUser, ofAll int

	mu    sync.Mutex
	count map[uint32]int
	total int
}

func newInFlight(ofUser, ofAll int) *inFlight {
	return &inFlight{ofUser: ofUser, ofAll: ofAll, count: map[uint32]int{}}
}

func (f *inFlight) enter(uid uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count[uid] >= f.ofUser || f.total >= f.ofAll {
		return false
	}
	f.count[uid]++
	f.total++
	return true
}

func (f *inFlight) leave(uid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total--
	if f.count[uid]--; f.count[uid] == 0 {
		delete(f.count, uid)
	}
}
