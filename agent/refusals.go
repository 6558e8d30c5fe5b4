package agent

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"orch/agent/pki"
)

// refusals counts those who are not let in, and logs them once a minute: a door that
// somebody rattles at must not fill the log.
type refusals struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	logged time.Time
	count  int
	failed map[string]int // joins in this minute, by address
	began  time.Time
}

const (
	// refusalsEvery is how often refusals are logged.
	refusalsEvery = time.Minute
	// maxFailedJoins of one address in a minute are told what is wrong; who guesses
	// tokens is told to wait.
	maxFailedJoins = 30
	// maxAddresses are remembered; beyond them all count as one.
	maxAddresses = 4096
)

func newRefusals(log *slog.Logger, now func() time.Time) *refusals {
	return &refusals{log: log, now: now, failed: map[string]int{}}
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

// failedJoin notes a join that failed and says whether its address has to wait.
func (r *refusals) failedJoin(from string, err error) (wait bool) {
	r.note("api", from, err)
	host, _, serr := net.SplitHostPort(from)
	if serr != nil {
		host = from
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.now(); now.Sub(r.began) >= time.Minute {
		r.began = now
		clear(r.failed)
	}
	if _, known := r.failed[host]; !known && len(r.failed) >= maxAddresses {
		host = ""
	}
	r.failed[host]++
	return r.failed[host] > maxFailedJoins
}
