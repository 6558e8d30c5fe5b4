package proxy

import (
	"sync"
	"sync/atomic"
	"time"
)

type rowKey struct {
	service    string
	number     int
	generation uint64
	addr       string // a row that is dialed elsewhere is another upstream
	direct     bool
}

// upstream is one generation of a row, and what is in flight on it. It outlives the
// tables that name it.
type upstream struct {
	Row
	service string
	limit   uint64 // most requests in flight
	stats   *rowStats
	idle    idlePool
	health  opinion

	_ [64]byte // state is written by every request: a cache line of its own
	// state is the number of requests in flight, with the flags drained and ejected
	// above it: a claim is one comparison and one exchange, since a flag alone exceeds
	// every limit. A claim that fails leaves no trace: another's could fail by it.
	state atomic.Uint64
	_     [64]byte
	// until is when an ejection ends, in ns since the epoch.
	until atomic.Int64
}

const (
	drained  = 1 << 63
	ejected  = 1 << 62
	counting = ejected - 1 // the bits that count
)

// claim counts a request in, unless the row drains, is ejected or is full.
func (u *upstream) claim() bool {
	for {
		was := u.state.Load()
		if was >= u.limit {
			return false
		}
		if u.state.CompareAndSwap(was, was+1) {
			return true
		}
	}
}

// claimEjected counts a request in on a row that may be ejected.
func (u *upstream) claimEjected() bool {
	for {
		was := u.state.Load()
		if was&^ejected >= u.limit {
			return false
		}
		if u.state.CompareAndSwap(was, was+1) {
			return true
		}
	}
}

func (u *upstream) settle() { u.state.Add(^uint64(0)) }

func (u *upstream) drain() { u.state.Or(drained) }

// restore lets a row be picked again: one that was out of rotation and is back in the
// same generation. A row that is to drain never comes back so: its table says so first.
func (u *upstream) restore() { u.state.And(^uint64(drained)) }

func (u *upstream) inFlight() int { return int(u.state.Load() & counting) }

// eject passes the row over for a moment; false when it already was.
func (u *upstream) eject(now time.Time) bool {
	u.until.Store(now.Add(ejection).UnixNano())
	return u.state.Or(ejected)&ejected == 0
}

// readmit ends an ejection whose time is over.
func (u *upstream) readmit(now time.Time) {
	if u.state.Load()&ejected != 0 && u.until.Load() <= now.UnixNano() {
		u.state.And(^uint64(ejected))
	}
}

// ejection is how long a row that failed is passed over here: two of the leader's
// polls, so that its verdict is in the table before.
const ejection = 2 * time.Second

// pick claims a row for turn: the (turn mod n)-th, or the next one after it that may
// be tried. A row that was ejected is taken only where no other is left, so that the last
// one in rotation is never given up; where another is only full, its room is waited for.
func (s *service) pick(turn uint64, tried []*upstream) *upstream {
	n := uint64(len(s.rows))
	if n == 0 {
		return nil
	}
	if u := s.rows[turn%n]; len(tried) == 0 && u.claim() {
		return u
	}
	now := time.Now()
	full := false
	for i := range n {
		u := s.rows[(turn+i)%n]
		u.readmit(now)
		if contains(tried, u) {
			continue
		}
		if u.claim() {
			return u
		}
		full = full || u.state.Load()&(drained|ejected) == 0
	}
	if full {
		return nil
	}
	return s.pickEjected(turn, tried)
}

// pickEjected claims a row that was passed over.
func (s *service) pickEjected(turn uint64, tried []*upstream) *upstream {
	n := uint64(len(s.rows))
	for i := range n {
		u := s.rows[(turn+i)%n]
		if !contains(tried, u) && u.claimEjected() {
			return u
		}
	}
	return nil
}

func contains(list []*upstream, u *upstream) bool {
	for _, x := range list {
		if x == u {
			return true
		}
	}
	return false
}

// opinion is what this proxy last heard from a row's health API. Requests that fail
// together share one question, which was asked after all of them had failed.
type opinion struct {
	mu      sync.Mutex
	asked   time.Time
	healthy bool
}

// ask returns whether the row is healthy, by a question that began no earlier than
// the call.
func (o *opinion) ask(question func() bool) bool {
	began := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked.Before(began) {
		o.asked = time.Now()
		o.healthy = question()
	}
	return o.healthy
}
