package consensus

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestTakenInAnewIsHeard: a member that was silent when it was removed is not, when it is
// back: its heartbeat is a new one, which has never failed.
func TestTakenInAnewIsHeard(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	lost := c.others(leader)[0]
	lost.close(t)
	until(t, "the leader knows who is silent", func() bool {
		_, silent := leader.Silent()[lost.cfg.ID]
		return silent
	})
	must(t, leader.Remove(within(t, patience), lost.cfg.ID))
	removed := time.Now()
	c.reopen(lost)
	must(t, leader.AddNonvoter(within(t, patience), lost.cfg.ID, lost.Addr()))
	until(t, "it is heard", func() bool { return len(leader.Silent()) == 0 })
	if took := time.Since(removed); took >= silenceLimit(lan(t)) {
		t.Errorf("only its silence has lapsed, after %v", took)
	}
	c.propose("after its return")
	until(t, "it has the log", func() bool { return lost.list.has("after its return") })
}

// TestSilenceLapses when no failure renews it; the words of Raft may be dropped.
func TestSilenceLapses(t *testing.T) {
	limit := silenceLimit(lan(t))
	if least := 2*lan(t).RPC + lan(t).Heartbeat; limit <= least {
		t.Fatalf("a silence lapses after %v, while Raft is to tell of it again only within %v", limit, least)
	}
	w := &watcher{raftLeads: true, observed: make(chan raft.Observation, observedBuffer)}
	w.hearAgain()
	at := time.Unix(1e9, 0)
	contact := at.Add(-time.Second)
	fails := raft.Observation{Data: raft.FailedHeartbeatObservation{PeerID: "n2", LastContact: contact}}
	is := func(what string, want bool) {
		t.Helper()
		if s, silent := w.silent["n2"]; silent != want || want && !s.since.Equal(contact) {
			t.Errorf("%s: silent %v, %+v", what, silent, s)
		}
	}
	w.heartbeat(fails, at)
	fails.Data = raft.FailedHeartbeatObservation{PeerID: "n2", LastContact: at} // its first silence counts
	w.lapse(at.Add(limit), limit)
	is("within the limit", true)
	w.observed <- fails // and the watching goroutine was held up
	w.lapse(at.Add(time.Hour), limit)
	is("renewed", true)
	w.lapse(at.Add(time.Hour+limit+1), limit)
	is("no word of it any more", false)
	for what, o := range map[string]any{
		"resumed": raft.ResumedHeartbeatObservation{PeerID: "n2"},
		"removed": raft.PeerObservation{Peer: raft.Server{ID: "n2"}, Removed: true},
		"added":   raft.PeerObservation{Peer: raft.Server{ID: "n2"}},
	} {
		w.heartbeat(raft.Observation{Data: raft.FailedHeartbeatObservation{PeerID: "n2", LastContact: contact}}, at)
		is("before "+what, true)
		w.heartbeat(raft.Observation{Data: o}, at)
		is(what, false)
	}
}
