package agent

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/fsm"
	"orch/proxy"
	"orch/scripts/local"
)

// quorum is three voters of Raft, each with an API that says what the test has it say, and
// a node beside each that is not run.
type quorum struct {
	t       *testing.T
	nodes   []*Node // the first leads
	mu      sync.Mutex
	reports map[string]api.Report
}

func newQuorum(t *testing.T) *quorum {
	t.Helper()
	q := &quorum{t: t, reports: map[string]api.Report{}}
	timings, err := consensus.Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	table := []fsm.Command{fsm.InitCluster{ClusterID: "c"}}
	for _, id := range []string{"n1", "n2", "n3"} {
		n := &Node{cfg: Config{NodeID: id}, store: fsm.NewStore(), log: slog.New(slog.DiscardHandler)}
		if n.raft, err = consensus.Open(consensus.Config{ID: id, Addr: "127.0.0.1:0", Dir: filepath.Join(local.Folder(t), id), Timings: timings}, fsm.NewStore()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeLog(t, n.raft) })
		n.member.ClusterID = "c"
		n.trust, n.proxy = newTrust(id, nil, n.store.View, nil), proxy.New(proxy.Config{Node: id}, nil, nil)
		n.peers = newPeers(n)
		n.peers.transport.DialContext = (&net.Dialer{}).DialContext
		t.Cleanup(n.peers.close)
		table = append(table, fsm.PutNode{Node: fsm.Node{ID: id, RaftAddr: n.raft.Addr(), APIAddr: q.answers(id)}})
		q.nodes = append(q.nodes, n)
	}
	for _, n := range q.nodes {
		for i, c := range table {
			apply(t, n.store, uint64(i+1), c)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	one := q.nodes[0].raft
	if err := one.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	q.until("it leads", func() bool { return one.Barrier(ctx) == nil })
	for _, n := range q.nodes[1:] {
		if err := one.AddVoter(ctx, n.cfg.NodeID, n.raft.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range q.nodes {
		q.until("it follows, and knows who votes", func() bool {
			members, err := n.raft.Members()
			return err == nil && len(members) == 3 && n.leader() == "n1"
		})
	}
	return q
}

// answers is the address of an API that gives a node's report, and refuses to without one.
func (q *quorum) answers(id string) string {
	q.say(api.Report{Node: id})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.reports[id].Node == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		json.NewEncoder(w).Encode(q.reports[id])
	}))
	q.t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func (q *quorum) say(r api.Report) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reports[r.Node] = r
}

func (q *quorum) until(what string, is func() bool) {
	q.t.Helper()
	deadline := time.After(patience)
	for !is() {
		select {
		case <-deadline:
			q.t.Fatalf("not within %s: %s", patience, what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stays has the leader keep a vote, for that reason, and decide on.
func (q *quorum) stays(id, why string) {
	q.t.Helper()
	ctx, cancel := context.WithTimeout(q.t.Context(), patience)
	defer cancel()
	err := q.nodes[0].TakeVote(ctx, id)
	if !errors.Is(err, api.ErrBad) || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "start or mend") {
		q.t.Errorf("%v, want %q", err, why)
	}
	if err := q.nodes[0].raft.Barrier(ctx); err != nil {
		q.t.Errorf("the quorum is lost: %v", err)
	}
}

// TestVoteOfTheQuorumStays: the leader takes none that the others need, whatever whoever
// asks it knows; and takes it when they do not need it any more.
func TestVoteOfTheQuorumStays(t *testing.T) {
	q := newQuorum(t)
	one, two, three := q.nodes[0], q.nodes[1], q.nodes[2]
	q.say(api.Report{Node: "n2", Fenced: true})
	q.stays("n3", "n2 is fenced")
	q.say(api.Report{Node: "n2", NoLeader: true})
	q.stays("n3", "n2 does not hear the leader")
	q.mu.Lock()
	q.reports["n2"] = api.Report{}
	q.mu.Unlock()
	q.stays("n3", "n2 does not answer")
	q.say(api.Report{Node: "n2"})
	for _, c := range []struct {
		at *Node
		id string
	}{{three, "n2"}, {one, "n1"}} {
		if err := c.at.TakeVote(t.Context(), c.id); !errors.Is(err, api.ErrNoLeader) {
			t.Errorf("%s takes the vote of %s: %v", c.at.cfg.NodeID, c.id, err)
		}
	}
	closeLog(t, two.raft) // its Raft port is shut; its API answers as before
	q.until("heartbeats fail", func() bool { return len(one.raft.Silent()) == 1 })
	q.stays("n3", "n2 does not hear the leader")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := one.TakeVote(ctx, "n2"); err != nil { // whose own vote no majority is made of
		t.Fatal(err)
	}
	if err := one.TakeVote(ctx, "n3"); err != nil {
		t.Fatal(err)
	}
	if members, err := one.raft.Members(); err != nil || len(members) != 1 || one.raft.Barrier(ctx) != nil {
		t.Errorf("%+v, %v", members, err)
	}
}

// TestWhoHearsNoLeaderIsUnable where there is one: it is no heir, and none of a majority.
func TestWhoHearsNoLeaderIsUnable(t *testing.T) {
	q := newQuorum(t)
	one, three := q.nodes[0], q.nodes[2]
	reports := map[string]api.Report{"n1": {Node: "n1"}, "n2": {Node: "n2", NoLeader: true}, "n3": {Node: "n3"}}
	voters, why, err := three.unable(three.store.View(), reports)
	if err != nil || len(voters) != 3 || len(why) != 1 || !strings.Contains(why["n2"], "7481") {
		t.Fatalf("%v, %v, %v", voters, why, err)
	}
	if lost := lacking(voters, why, "n1"); !strings.Contains(lost, "n2 does not hear the leader") {
		t.Errorf("%q is lacking without the leader", lost)
	}
	if to := heir(voters, why, "n1", "n2"); to != "n3" {
		t.Errorf("%q shall lead, asked at n2", to)
	}
	closeLog(t, one.raft)
	closeLog(t, q.nodes[1].raft)
	q.until("nobody leads", func() bool { return three.leader() == "" })
	reports["n3"] = api.Report{Node: "n3", NoLeader: true}
	if _, why, err := three.unable(three.store.View(), reports); err != nil || len(why) != 0 {
		t.Errorf("nobody leads, and who hears nobody is to blame: %v, %v", why, err)
	}
}
