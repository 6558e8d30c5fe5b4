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

// joins of one address within a window that began with the first of them: those that
// have failed and those under way.
type joins struct {
	began time.Time
	count int
}

const (
	// refusalsEvery is how often refusals are logged.
	refusalsEvery = time.Minute
	// maxFailedJoins of one address within joinWindow are looked at: more than the nodes
	// of a cluster behind one address, and nothing for who guesses at 128 bits.
	maxFailedJoins = 30
	joinWindow     = time.Minute
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
// many have failed. ended takes it off again unless it has failed by its own fault.
func (r *refusals) tries(from string) (ended func(error), wait time.Duration) {
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
	full := j.count >= maxFailedJoins
	if full {
		wait = max(j.began.Add(joinWindow).Sub(now).Round(time.Second), time.Second)
	} else {
		j.count++
	}
	r.mu.Unlock()
	if full {
		r.note("api", from, api.ErrTooMany)
		return nil, wait
	}
	return func(err error) {
		if err != nil && !errors.Is(err, api.ErrNoLeader) && !errors.Is(err, api.ErrUnknown) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, api.ErrNotMember) {
			r.note("api", from, err)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		j.count--
	}, 0
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
