// Package ration limits the rate of each user's actions.
package ration

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Ration configures a token bucket for each user: Burst tokens, and one more after each
// Every.
type Ration struct {
	Burst int
	Every time.Duration
}

// Rations has the buckets of all users. Its methods may be called concurrently.
type Rations struct {
	ration Ration
	now    func() time.Time

	mu    sync.Mutex
	users map[uint32]*rate.Limiter // those whose bucket is not full
}

// New returns full buckets for all users. now is time.Now, except in tests.
func New(r Ration, now func() time.Time) *Rations {
	return &Rations{ration: r, now: now, users: map[uint32]*rate.Limiter{}}
}

// Take takes a token, and reports whether the user had one.
func (r *Rations) Take(uid uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	user := r.users[uid]
	if user == nil {
		r.dropFull(now)
		user = rate.NewLimiter(rate.Every(r.ration.Every), r.ration.Burst)
		r.users[uid] = user
	}
	return user.AllowN(now, 1)
}

// dropFull drops the buckets that are full again, so that memory is bounded by the number
// of recent users.
func (r *Rations) dropFull(now time.Time) {
	for uid, user := range r.users {
		if user.TokensAt(now) >= float64(r.ration.Burst) {
			delete(r.users, uid)
		}
	}
}
