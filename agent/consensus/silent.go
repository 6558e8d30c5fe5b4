package consensus

import (
	"maps"
	"time"

	"github.com/hashicorp/raft"
)

// observedBuffer is how many words about heartbeats may wait for the watching
// goroutine; more are dropped, and the next failure says it again.
const observedBuffer = 64

// Silent returns the members that this leader's heartbeats do not reach, and
// since when: a second opinion beside gossip. It is empty on other nodes.
func (n *Node) Silent() map[string]time.Time {
	w := &n.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.silent)
}

// observe listens to what r says of its heartbeats.
func (w *watcher) observe(r *raft.Raft) {
	if w.observed == nil {
		w.observed = make(chan raft.Observation, observedBuffer)
	}
	w.observer = raft.NewObserver(w.observed, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	r.RegisterObserver(w.observer)
}

func (w *watcher) heartbeat(o raft.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch o := o.Data.(type) {
	case raft.FailedHeartbeatObservation:
		if _, known := w.silent[string(o.PeerID)]; !known && w.raftLeads {
			w.silent[string(o.PeerID)] = o.LastContact
		}
	case raft.ResumedHeartbeatObservation:
		delete(w.silent, string(o.PeerID))
	}
}

func (w *watcher) hearAgain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = map[string]time.Time{}
}
