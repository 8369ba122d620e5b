package probe

import (
	"cmp"
	"context"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"
)

// account is whom the time for a process is charged to: the slice of a user, or the
// unit of what is no user's. Nobody can give their processes to another account.
type account string

// accountOf reads it from where the process stands. A control group that cannot be
// read, or is nobody's, belongs to the account "".
func accountOf(where place) account {
	for _, slice := range where.slices {
		if userSlice.MatchString(slice) {
			return account(slice)
		}
	}
	return account(where.unit)
}

var userSlice = regexp.MustCompile(`^user-[0-9]+\.slice$`)

// compareAccounts has those first that are no user's.
func compareAccounts(a, b account) int {
	if ofUser := userSlice.MatchString(string(a)); ofUser != userSlice.MatchString(string(b)) {
		if ofUser {
			return 1
		}
		return -1
	}
	return cmp.Compare(a, b)
}

// accounts sorts processes by account.
func accounts(proc string, pids []int) map[account][]int {
	by := map[account][]int{}
	for _, pid := range pids {
		where, _ := placeIn(proc, pid)
		of := accountOf(where)
		by[of] = append(by[of], pid)
	}
	return by
}

// turns has the processes of each account looked at by a goroutine of the account's
// own, for a limited time. So nobody's processes hold up another's: the accounts take
// turns, a process each, and a system call that does not return keeps only the account
// waiting whose process it is about.
type turns[T any] struct {
	limit time.Duration
	// slots are for the processes that are looked at at the same time: each may take a
	// thread and a few descriptors, of which the unit allows us some.
	slots chan struct{}
	// grace is how much longer it waits for turns that see that their time is over.
	grace time.Duration
	// stuck are the turns of earlier looks that have not ended.
	stuck map[account]*turn[T]
}

func newTurns[T any](limit time.Duration) turns[T] {
	return turns[T]{limit: limit, grace: limit / 8, slots: make(chan struct{}, slots), stuck: map[account]*turn[T]{}}
}

const slots = 8

// findings are what came of an account's turn.
type findings[T any] struct {
	pids []int // the one at which it stopped comes first
	told map[int]T
}

// run gives every account its turn: look visits each process, until there is no more
// time. An account whose last turn is still stuck gets no other one, so that no more of
// them get stuck.
func (s *turns[T]) run(
	ctx context.Context, by map[account][]int, look func(ctx context.Context, t *turn[T], pids []int),
) map[account]findings[T] {
	late, stop := context.WithTimeout(context.WithoutCancel(ctx), s.limit+s.grace)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	maps.DeleteFunc(s.stuck, func(_ account, t *turn[T]) bool { return t.over() })
	running, found := map[account]*turn[T]{}, map[account]findings[T]{}
	for of, pids := range by {
		if t := s.stuck[of]; t != nil {
			found[of] = findings[T]{pids: t.stoppedAt(pids)}
			continue
		}
		t := &turn[T]{slots: s.slots, ended: make(chan struct{}), told: map[int]T{}}
		running[of] = t
		go func() {
			defer close(t.ended)
			look(ctx, t, pids)
		}()
	}
	for of, t := range running {
		select {
		case <-t.ended:
		case <-late.Done():
		}
		if !t.over() {
			s.stuck[of] = t
		}
		found[of] = t.findings(by[of])
	}
	return found
}

// turn is the look at one account's processes.
type turn[T any] struct {
	slots chan struct{}
	ended chan struct{}
	mu    sync.Mutex
	told  map[int]T
	at    int
}

func (t *turn[T]) over() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

// visit looks at a process and notes what look finds out about it, if anything. It
// reports whether there was time for it.
func (t *turn[T]) visit(ctx context.Context, pid int, look func() (what T, found bool)) bool {
	select {
	case t.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-t.slots }()
	if ctx.Err() != nil {
		return false
	}
	t.mu.Lock()
	t.at = pid
	t.mu.Unlock()
	if what, found := look(); found {
		t.mu.Lock()
		t.told[pid] = what
		t.mu.Unlock()
	}
	return true
}

func (t *turn[T]) findings(pids []int) findings[T] {
	pids = t.stoppedAt(pids)
	t.mu.Lock()
	defer t.mu.Unlock()
	return findings[T]{pids, maps.Clone(t.told)}
}

// stoppedAt has the process first that the turn is at.
func (t *turn[T]) stoppedAt(pids []int) []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(pids, t.at)
	if i < 0 {
		return pids
	}
	return slices.Concat(pids[i:], pids[:i])
}

// share says how many entries of each group a list with that much room has, as many
// of each as there can be.
func share(sizes map[string]int, room int) map[string]int {
	shares, names := map[string]int{}, slices.Sorted(maps.Keys(sizes))
	for more := true; more; {
		more = false
		for _, name := range names {
			if room > 0 && shares[name] < sizes[name] {
				shares[name]++
				room--
				more = true
			}
		}
	}
	return shares
}
