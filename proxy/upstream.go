package proxy

import (
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
	// state is the number of requests in flight, and drained in its highest bit, so
	// that pick and count are one step.
	state atomic.Uint64
	// ejected is the time (ns since the epoch) until which it is passed over here.
	ejected atomic.Int64
}

const drained = 1 << 63

// claim counts a request in, unless the row drains.
func (u *upstream) claim() bool {
	if u.state.Add(1)&drained != 0 {
		u.state.Add(^uint64(0))
		return false
	}
	return true
}

func (u *upstream) settle() { u.state.Add(^uint64(0)) }

func (u *upstream) drain() { u.state.Or(drained) }

// restore lets a row be picked again: one that was out of rotation and is back in the
// same generation. A row that is to drain never comes back so: its table says so first.
func (u *upstream) restore() { u.state.And(^uint64(drained)) }

func (u *upstream) inFlight() int { return int(u.state.Load() &^ drained) }

func (u *upstream) eject(now time.Time) { u.ejected.Store(now.Add(ejection).UnixNano()) }

func (u *upstream) out(now time.Time) bool { return u.ejected.Load() > now.UnixNano() }

// ejection is how long a row that failed is passed over here: until the leader's next
// poll has had its say.
const ejection = 2 * time.Second

// pick claims a row for turn: the (turn mod n)-th, or the next one after it that may
// be tried. A row that was ejected is taken only where no other is left: the last one
// in rotation is never given up.
func (s *service) pick(turn uint64, tried []*upstream, now time.Time) *upstream {
	n := uint64(len(s.rows))
	for _, lastResort := range [2]bool{false, true} {
		for i := range n {
			u := s.rows[(turn+i)%n]
			if u.out(now) != lastResort || contains(tried, u) {
				continue
			}
			if u.claim() {
				return u
			}
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
