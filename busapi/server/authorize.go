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
	"github.com/dubnium/dubnium/internal/errtext"
	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/policy"
)

const (
	// maxPrompts bounds the requests of one user that wait for a password. The bus
	// permits 128 pending replies for a connection; one user must not use them all.
	maxPrompts = 4
	// maxPromptsOfAll keeps replies free for reading the users of senders.
	maxPromptsOfAll = 64
)

// details are the parameters of the message of a polkit action.
type details = map[string]string

// need is a polkit action that a call needs. why explains it in the refusal, if the
// method does not imply it.
type need struct {
	action  string
	details details
	why     string
}

// authorize returns the request with its requester and authorization, or refuses it.
// The host may change during a password prompt, and the request may then need more
// actions.
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

// needs lists the actions that a request needs in the current view, and whether they
// include ending other users' sessions and leaving compute. The transition checks both
// again before its point of no return.
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
			why: "compute would end other users' sessions",
		})
	}
	// A request for desktop that is not forced needs this action already.
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

// endsTerms explains how a request overrides one of another user; empty if it does not.
// A request ends the terms of its mode, and new terms end a mode that is already
// reached.
func endsTerms(view status.View, uid uint32, r status.Request, back policy.Mode) (why string) {
	lease, terms := view.Lease, r.Terms != (status.Terms{})
	leased := lease != nil && lease.Mode == r.Mode
	switch {
	case leased && lease.UID == uid:
		return ""
	case terms && (leased || view.Observation.Inferred != back):
		return fmt.Sprintf("the terms end with a transition to %s", back)
	case leased && !r.KeepTerms:
		return "this ends the terms of " + lease.By
	}
	return ""
}

// permit returns the authorization of a call once polkit has granted every action. uid 0
// is authorized by its bus credentials alone: a broken polkit must not keep the operator
// from restoring the host.
func (s *Server) permit(c *call, needs ...need) (right string, err error) {
	if c.uid == 0 {
		return status.ByCredentials, nil
	}
	if !s.prompts.enter(c.uid) {
		return "", busapi.Refuse(
			status.ErrTooMany, "too many requests wait for authorization, at most %d per user", maxPrompts,
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
	return status.ByPolkit(actions...), s.checkConnected(ctx, c.sender)
}

// sessionsOfOthers names the users other than uid with a graphical session.
func (s *Server) sessionsOfOthers(uid uint32) []string {
	var names []string
	for _, session := range s.controller.View().Snapshot.Logind.Graphical() {
		if session.UID != uid && !slices.Contains(names, session.User) {
			names = append(names, session.User)
		}
	}
	return names
}

// atScreen reports whether a user has a graphical session.
func (s *Server) atScreen(uid uint32) bool {
	return slices.ContainsFunc(
		s.controller.View().Snapshot.Logind.Graphical(), func(session observer.Session) bool { return session.UID == uid },
	)
}

// checkConnected refuses a requester that disconnected during the password prompt.
// Unique names are never reused, so the name alone decides.
func (s *Server) checkConnected(ctx context.Context, sender string) error {
	if _, err := s.authorizer.UID(ctx, sender); err != nil {
		return senderUnknown(err)
	}
	return nil
}

func senderUnknown(err error) error {
	return busapi.Refuse(busapi.ErrAccessDenied, "cannot identify the caller: %s", errtext.Of(err))
}

// describe is a user for people. Without an answer of the user database it has the uid
// alone.
func describe(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return fmt.Sprintf("uid %s (%s)", id, u.Username)
	}
	return "uid " + id
}

// inFlight bounds the running calls of one user, and of all users.
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
