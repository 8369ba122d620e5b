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

// account is the unit by which the time to read processes is limited: the slice of a user, or else the
// unit of the system manager. A user cannot move processes to another account.
type account string

// accountOf returns the account of a process. It is "" if the control group is unknown.
func accountOf(where place) account {
	for _, slice := range where.slices {
		if userSlice.MatchString(slice) {
			return account(slice)
		}
	}
	return account(where.unit)
}

var userSlice = regexp.MustCompile(`^user-[0-9]+\.slice$`)

// compareAccounts orders the accounts of units before those of users.
func compareAccounts(a, b account) int {
	if ofUser := userSlice.MatchString(string(a)); ofUser != userSlice.MatchString(string(b)) {
		if ofUser {
			return 1
		}
		return -1
	}
	return cmp.Compare(a, b)
}

// accounts groups processes by account.
func accounts(proc string, pids []int) map[account][]int {
	by := map[account][]int{}
	for _, pid := range pids {
		where, _ := placeIn(proc, pid)
		of := accountOf(where)
		by[of] = append(by[of], pid)
	}
	return by
}

// turns reads the processes of each account in a goroutine of its own, within a time limit. So the
// processes of one account do not delay those of another, even if a system call never returns.
type turns[T any] struct {
	limit time.Duration
	// slots limits the processes that are read at the same time. Each may take a thread
	// and a few file descriptors, which the unit limits.
	slots chan struct{}
	// grace is how much longer run waits for turns to notice the end of the limit.
	grace time.Duration
	// stuck are the turns of earlier runs that have not ended.
	stuck map[account]*turn[T]
}

func newTurns[T any](limit time.Duration) turns[T] {
	return turns[T]{limit: limit, grace: limit / 8, slots: make(chan struct{}, slots), stuck: map[account]*turn[T]{}}
}

const slots = 8

// findings are the results of the turn of an account.
type findings[T any] struct {
	pids    []int // the one at which the turn stopped is first
	results map[int]T
}

// run starts a turn for each account, in which read visits each process until the limit. An account
// whose earlier turn is still stuck gets no new one, so that goroutines do not accumulate.
func (s *turns[T]) run(
	ctx context.Context, by map[account][]int, read func(ctx context.Context, t *turn[T], pids []int),
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
		t := &turn[T]{slots: s.slots, ended: make(chan struct{}), results: map[int]T{}}
		running[of] = t
		go func() {
			defer close(t.ended)
			read(ctx, t, pids)
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

// turn is the read of the processes of one account.
type turn[T any] struct {
	slots   chan struct{}
	ended   chan struct{}
	mu      sync.Mutex
	results map[int]T
	current int // pid
}

func (t *turn[T]) over() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}

// visit calls read for a process, and stores its result if ok. It returns false if the limit has
// passed before.
func (t *turn[T]) visit(ctx context.Context, pid int, read func() (result T, ok bool)) bool {
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
	t.current = pid
	t.mu.Unlock()
	if result, ok := read(); ok {
		t.mu.Lock()
		t.results[pid] = result
		t.mu.Unlock()
	}
	return true
}

func (t *turn[T]) findings(pids []int) findings[T] {
	pids = t.stoppedAt(pids)
	t.mu.Lock()
	defer t.mu.Unlock()
	return findings[T]{pids, maps.Clone(t.results)}
}

// stoppedAt rotates pids so that the current process is first.
func (t *turn[T]) stoppedAt(pids []int) []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(pids, t.current)
	if i < 0 {
		return pids
	}
	return slices.Concat(pids[i:], pids[:i])
}

// share divides the room of a list among groups of these sizes, as evenly as possible.
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
