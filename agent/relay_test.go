package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"orch/fsm"
)

// TestRelay: a node that hears no leader by Raft goes by the table that the leader gives,
// and by its own log again when that has caught up.
func TestRelay(t *testing.T) {
	n := &Node{cfg: Config{NodeID: "n1"}, store: fsm.NewStore(), log: slog.New(slog.DiscardHandler)}
	n.member.ClusterID = "c"
	n.peers = newPeers(n)
	n.peers.transport.DialContext = (&net.Dialer{}).DialContext
	defer n.peers.close()
	there := fsm.NewStore() // what the leader has
	leads := false
	follower := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer follower.Close()
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/node/table" || !leads {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if err := there.Snapshot()(w); err != nil {
			t.Error(err)
		}
	}))
	defer leader.Close()
	addr := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	log := []fsm.Command{
		fsm.InitCluster{ClusterID: "c"}, fsm.PutNode{Node: fsm.Node{ID: "n1", RaftAddr: "r1", APIAddr: "a1"}},
		fsm.PutNode{Node: fsm.Node{ID: "n2", RaftAddr: "r2", APIAddr: addr(follower)}}, fsm.PutNode{Node: fsm.Node{ID: "n3", RaftAddr: "r3", APIAddr: addr(leader)}},
		fsm.DrainNode{ID: "n1", Deadline: 1},
	}
	for i, c := range log {
		apply(t, there, uint64(i+1), c)
		if i < 4 { // the last one does not arrive
			apply(t, n.store, uint64(i+1), c)
		}
	}
	drained := func(v *fsm.State) bool { self, _ := v.Node("n1"); return self.Leaving() }
	poke, end := n.store.Subscribe()
	defer end()
	n.relay(t.Context())
	if n.relayed.Load() != nil {
		t.Error("a table of one that does not lead")
	}
	leads = true
	n.relay(t.Context())
	select {
	case <-poke:
	default:
		t.Error("nobody was told")
	}
	if r := n.relayed.Load(); r == nil || r.leader != "n3" || !drained(n.view()) || !drained(n.committed()) {
		t.Fatalf("%+v", r)
	}
	soon, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.until(soon, func(v *fsm.State) bool { return v.Applied >= there.View().Applied && drained(v) }); err != nil {
		t.Errorf("who waits for the table is not told by the leader's: %v", err)
	}
	if v := (orders{n}).View(); !drained(v) {
		t.Error("what is kept on disk is the old table")
	}
	n.relay(t.Context())
	select {
	case <-poke:
		t.Error("told of nothing new")
	default:
	}
	leads = false
	n.relay(t.Context())
	if r := n.relayed.Load(); r.leader != "" || !drained(n.committed()) {
		t.Errorf("what was committed counts, whoever leads: %+v", r)
	}
}
