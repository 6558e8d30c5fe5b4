package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
)

// refusals counts those who are not let in, and logs them once a minute: a door that
// somebody rattles at must not fill the log. Joins of an address that fail too often are
// refused unseen.
type refusals struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	logged time.Time
	count  int
	joins  map[netip.Addr]*joins
	order  []netip.Addr // of joins, the oldest window first
}

// joins of one address within a window that began with the first of them.
type joins struct {
	began    time.Time
	failed   int
	underWay int
}

const (
	// refusalsEvery is how often refusals are logged.
	refusalsEvery = time.Minute
	// maxFailedJoins of one address within joinWindow are looked at: more than the nodes
	// of a cluster behind one address, and nothing for who guesses at 128 bits.
	maxFailedJoins = 30
	joinWindow     = time.Minute
	// maxJoinsAtOnce of one address are under way: whole racks start together, and each
	// costs a signature and a commit.
	maxJoinsAtOnce = 30
	// crowdedWait is what one more than that is asked to wait: a join takes a fraction.
	crowdedWait = time.Second
	// maxAddresses are remembered; with one more the oldest is forgotten. It could then
	// try again, but nobody is kept out for it.
	maxAddresses = 4096
)

func newRefusals(log *slog.Logger, now func() time.Time) *refusals {
	return &refusals{log: log, now: now, joins: map[netip.Addr]*joins{}}
}

// heard returns what a listener tells of handshakes that failed.
func (r *refusals) heard(port string) func(net.Addr, error) {
	return func(from net.Addr, err error) {
		if !errors.Is(err, pki.ErrNoCertificate) { // this node is in no cluster yet: there is nothing to guard
			r.note(port, from.String(), err)
		}
	}
}

// note logs the first refusal, then one line a minute with how many there were.
func (r *refusals) note(port, from string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	if now := r.now(); now.Sub(r.logged) >= refusalsEvery {
		r.log.Warn("connections refused", "port", port, "from", from, "reason", err, "count", r.count)
		r.logged, r.count = now, 0
	}
}

// tries counts a join that an address begins, and says how long it has to wait where too
// many have failed, or (crowded) are under way. ended takes the join off again, and counts
// it as failed where that was its own fault.
func (r *refusals) tries(from string) (ended func(error), wait time.Duration, crowded bool) {
	who := network(from)
	r.mu.Lock()
	now := r.now()
	for len(r.order) > 0 && now.Sub(r.joins[r.order[0]].began) >= joinWindow {
		r.forgetOldest()
	}
	j := r.joins[who]
	if j == nil {
		if len(r.order) >= maxAddresses {
			r.forgetOldest()
		}
		j = &joins{began: now}
		r.joins[who], r.order = j, append(r.order, who)
	}
	switch {
	case j.failed >= maxFailedJoins:
		wait = max(j.began.Add(joinWindow).Sub(now).Round(time.Second), time.Second)
	case j.underWay >= maxJoinsAtOnce:
		wait, crowded = crowdedWait, true
	default:
		j.underWay++
	}
	r.mu.Unlock()
	if wait > 0 {
		r.note("api", from, api.ErrTooMany)
		return nil, wait, crowded
	}
	return func(err error) {
		own := err != nil
		for _, other := range [...]error{api.ErrNoLeader, api.ErrUnknown, api.ErrNotMember, api.ErrUnreachable, context.DeadlineExceeded, context.Canceled} {
			own = own && !errors.Is(err, other)
		}
		if own {
			r.note("api", from, err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if j.underWay--; own {
			j.failed++
		}
	}, 0, false
}

func (r *refusals) forgetOldest() {
	delete(r.joins, r.order[0])
	r.order = r.order[1:]
}

// network is who counts as one: an IPv4 address, or the IPv6 network that one has whole.
func network(from string) netip.Addr {
	a, err := netip.ParseAddrPort(from)
	if err != nil {
		return netip.Addr{}
	}
	ip := a.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return ip
}
