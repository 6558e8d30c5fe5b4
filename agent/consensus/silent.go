package consensus

import (
	"maps"
	"time"

	"github.com/hashicorp/raft"
)

// observedBuffer is how many words about heartbeats may wait for the watching
// goroutine; more are dropped, and the next failure says it again.
const observedBuffer = 64

// silence is that of a peer whose heartbeats fail.
type silence struct {
	since   time.Time // when it was last heard of
	renewed time.Time // when the last failure was told of
}

// silenceLimit is how long after its last failure a peer still counts as silent. As long
// as heartbeats fail, hashicorp/raft v1.7.3 tells of a failure at least once in the sum of:
// a connection and then an answer of RPC each (net_transport.go: getConn, genericRPC), a
// pause of at most half of Heartbeat (replication.go, heartbeat: cappedExponentialBackoff),
// and the wait for the next beat, of at most a fifth (randomTimeout doubles its tenth). It
// is twice that, for one of these words may be dropped.
func silenceLimit(t Timings) time.Duration { return 2 * (2*t.RPC + t.Heartbeat/2 + t.Heartbeat/5) }

// Silent returns the members that this leader's heartbeats do not reach, and
// since when: a second opinion beside gossip. It is empty on other nodes.
func (n *Node) Silent() map[string]time.Time {
	w := &n.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]time.Time, len(w.silent))
	for id, s := range w.silent {
		out[id] = s.since
	}
	return out
}

// observe listens to what r says of its heartbeats, and of its peers: one that is taken in
// anew has a heartbeat that has never failed, and so never tells that it is heard again.
func (w *watcher) observe(r *raft.Raft) {
	if w.observed == nil {
		w.observed = make(chan raft.Observation, observedBuffer)
	}
	w.observer = raft.NewObserver(w.observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation, raft.PeerObservation:
			return true
		}
		return false
	})
	r.RegisterObserver(w.observer)
}

func (w *watcher) heartbeat(o raft.Observation, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch o := o.Data.(type) {
	case raft.FailedHeartbeatObservation:
		if !w.raftLeads {
			return
		}
		s, known := w.silent[string(o.PeerID)]
		if !known {
			s.since = o.LastContact
		}
		s.renewed = now
		w.silent[string(o.PeerID)] = s
	case raft.ResumedHeartbeatObservation:
		delete(w.silent, string(o.PeerID))
	case raft.PeerObservation:
		delete(w.silent, string(o.Peer.ID))
	}
}

// lapse forgets a silence of which nothing was heard for so long: the word of its end was
// dropped, or the last failure of a peer that is gone came after the word that it goes. What
// waits to be read counts, however long this goroutine was held up.
func (w *watcher) lapse(now time.Time, limit time.Duration) {
	for range len(w.observed) {
		w.heartbeat(<-w.observed, now)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.silent, func(_ string, s silence) bool { return now.Sub(s.renewed) > limit })
}

func (w *watcher) hearAgain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = map[string]silence{}
}
