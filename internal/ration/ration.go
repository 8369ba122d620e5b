// Package ration bounds how often each of many users may do something.
package ration

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Ration is a token bucket for each user: Burst at once, and one more each time that
// Every has passed.
type Ration struct {
	Burst int
	Every time.Duration
}

// Rations are the buckets of all users under one ration. Their methods may be called
// from many goroutines.
type Rations struct {
	ration Ration
	now    func() time.Time

	mu    sync.Mutex
	users map[uint32]*rate.Limiter // those whose bucket is not full
}

// New returns full buckets for everybody. now is time.Now, but for tests.
func New(r Ration, now func() time.Time) *Rations {
	return &Rations{ration: r, now: now, users: map[uint32]*rate.Limiter{}}
}

// Take reports whether the user has a token left, and takes it.
func (r *Rations) Take(uid uint32) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	user := r.users[uid]
	if user == nil {
		r.forget(now)
		user = rate.NewLimiter(rate.Every(r.ration.Every), r.ration.Burst)
		r.users[uid] = user
	}
	return user.AllowN(now, 1)
}

// forget drops the buckets that are full again, so that the memory is bounded by who
// has asked lately.
func (r *Rations) forget(now time.Time) {
	for uid, user := range r.users {
		if user.TokensAt(now) >= float64(r.ration.Burst) {
			delete(r.users, uid)
		}
	}
}
