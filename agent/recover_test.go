package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/fsm"
)

// Where a cluster may be recovered: never beside a quorum, never from less than
// another survivor holds.
func TestWhereToRecover(t *testing.T) {
	at := func(term, index uint64) api.Holding { return api.Holding{Term: term, Index: index} }
	lost := func(id string) api.Survivor { return api.Survivor{ID: id, Voter: true} }
	there := func(id string, h api.Holding) api.Survivor {
		return api.Survivor{ID: id, Voter: true, Answers: true, Holds: h}
	}
	for name, c := range map[string]struct {
		p    api.Recovery
		says string // "" is allowed
	}{
		"the only one of three":         {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{lost("n2"), lost("n3")}}, ""},
		"a leader":                      {api.Recovery{Leader: "n2", Members: []api.Survivor{lost("n2"), lost("n3")}}, "node n2 leads"},
		"two of three":                  {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{there("n2", at(1, 1)), lost("n3")}}, "2 of 3 voters answer"},
		"two of four are no majority":   {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{there("n2", at(2, 8)), lost("n3"), lost("n4")}}, ""},
		"another holds a later index":   {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{there("n2", at(2, 10)), lost("n3"), lost("n4")}}, "node n2 holds more (term 2, index 10)"},
		"another holds a later term":    {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{there("n2", at(3, 4)), lost("n3"), lost("n4")}}, "node n2 holds more"},
		"one that is lost holds more":   {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Voter: true, Holds: at(9, 99)}, lost("n3")}}, ""},
		"a non-voter holds more":        {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Answers: true, Holds: at(2, 10)}, lost("n3")}}, "node n2 holds more"},
		"a non-voter makes no majority": {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Answers: true, Holds: at(2, 9)}, lost("n3")}}, ""},
		"another one has a leader":      {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Answers: true, Holds: at(2, 9), Leader: "n4"}, lost("n3"), lost("n4")}}, "node n2 follows node n4"},
		"another one had this for one":  {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Answers: true, Holds: at(2, 9), Leader: "n1"}, lost("n3"), lost("n4")}}, ""},
		"alone in its cluster":          {api.Recovery{Holds: at(2, 9)}, "1 of 1 voters answer"},
	} {
		if got := refused(c.p, false, true); !strings.Contains(got, c.says) || (c.says == "") != (got == "") {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
	p := api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{lost("n2"), lost("n3")}}
	if got := refused(p, true, true); !strings.Contains(got, "the disk of node n1 takes no writes") {
		t.Errorf("its disk is full: %q", got)
	}
	p = api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{there("n2", at(2, 9)), lost("n3")}}
	if got := refused(p, false, false); got != "" {
		t.Errorf("one of two voters answers, and this node has no vote: %q", got)
	}
}

// survivor is a member of a cluster with no more of orchd than a recovery needs: its
// folder, its log and its table.
func survivor(t *testing.T) *Node {
	t.Helper()
	c := Config{NodeID: "n1", DataDir: filepath.Join(t.TempDir(), "data")}
	n := &Node{cfg: c, log: slog.New(slog.DiscardHandler), store: fsm.NewStore(), clock: newClock(time.Now()), joined: make(chan struct{}), life: t.Context()}
	n.folder = open(t, c.DataDir)
	n.trust = newTrust(c.NodeID, n.folder, n.view, n.log)
	n.peers = newPeers(n)
	timings, err := consensus.Profile("lan")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Store: n.store, clock: n.clock}
	if n.raft, err = consensus.Open(consensus.Config{ID: c.NodeID, Addr: "127.0.0.1:0", Dir: c.DataDir, Timings: timings}, m); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, n.raft) })
	if err := n.become(identity{ClusterID: newClusterID(), NodeID: c.NodeID}); err != nil {
		t.Fatal(err)
	}
	return n
}

// loseQuorum gives a vote to a node that is not there.
func (n *Node) loseQuorum(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.raft.Bootstrap(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []fsm.Command{
		fsm.InitCluster{ClusterID: n.clusterID()},
		fsm.PutNode{Node: fsm.Node{ID: "n1", APIAddr: "127.0.0.1:1", RaftAddr: n.raft.Addr()}},
		fsm.PutNode{Node: fsm.Node{ID: "n2", APIAddr: "127.0.0.1:2", RaftAddr: "127.0.0.1:3"}},
	} {
		if err := n.untilLeading(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.raft.AddVoter(ctx, "n2", "127.0.0.1:3"); err != nil && !errors.Is(err, consensus.ErrUnknown) {
		t.Fatal(err)
	}
	for n.order(t).Index == 0 {
		select {
		case <-ctx.Done():
			t.Fatal("it leads on")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// order is to recover what there is, or nothing where that is refused.
func (n *Node) order(t *testing.T) api.RecoverOrder {
	t.Helper()
	p, err := n.Recovery(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Refused != "" {
		return api.RecoverOrder{}
	}
	return api.RecoverOrder{ClusterID: p.ClusterID, Term: p.Holds.Term, Index: p.Holds.Index}
}

// knows checks what this node is of, in memory and on disk.
func (n *Node) knows(t *testing.T, epoch uint64) {
	t.Helper()
	id, _, err := n.folder.identity("n1")
	if err != nil || id.Epoch != epoch || id.Recovering != 0 || n.epoch() != epoch || n.member.Recovering != 0 {
		t.Errorf("recovery %d is known, want %d; on disk %+v, %v", n.epoch(), epoch, id, err)
	}
}

// TestRecoverIsCutOff: before its log says so nothing is told to anybody, and a majority
// that comes back finds a member as before; after it the recovery ends, also without the
// one who has asked for it.
func TestRecoverIsCutOff(t *testing.T) {
	n := survivor(t)
	n.loseQuorum(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.Recover(gone, n.order(t), "ann"); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody asks for it any more: %v", err)
	}
	n.knows(t, 0)

	snapshots := filepath.Join(n.cfg.DataDir, "snapshots")
	if err := errors.Join(os.Rename(snapshots, snapshots+"-kept"), os.WriteFile(snapshots, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Recover(t.Context(), n.order(t), "ann"); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("no snapshot can be written: %v", err)
	}
	n.knows(t, 0)
	if err := errors.Join(os.Remove(snapshots), os.Rename(snapshots+"-kept", snapshots)); err != nil {
		t.Fatal(err)
	}

	// As a power cut leaves it before the log is of the recovery.
	if err := errors.Join(n.amend(func(id *identity) { id.Recovering = 9 }), n.finishRecovery()); err != nil {
		t.Fatal(err)
	}
	n.knows(t, 0)

	asks, hangsUp := context.WithCancel(t.Context())
	defer hangsUp()
	go func() {
		for {
			if id, _, err := n.folder.identity("n1"); err != nil || id.Epoch > 0 || asks.Err() != nil {
				hangsUp()
				return
			}
			<-time.After(time.Millisecond)
		}
	}()
	p, err := n.Recover(asks, n.order(t), "ann")
	if err != nil || asks.Err() == nil {
		t.Fatalf("%v; hung up: %v", err, asks.Err())
	}
	n.knows(t, p.Epoch)
	v := n.store.View()
	if lost, _ := v.Node("n2"); lost.Status != fsm.NodeLeft {
		t.Errorf("n2 is not left behind: %+v", lost)
	}
	if !slices.ContainsFunc(v.Events, func(e fsm.Event) bool { return e.Kind == "cluster-recovered" }) {
		t.Errorf("events %+v", v.Events)
	}

	// As a power cut leaves it after that.
	if err := n.amend(func(id *identity) { id.Epoch, id.Recovering = 0, p.Epoch }); err != nil {
		t.Fatal(err)
	}
	if err := n.finishRecovery(); err != nil {
		t.Fatal(err)
	}
	n.knows(t, p.Epoch)

	// The disk takes no node.json when it has come to pass, and later it does.
	kept := n.folder
	n.folder = &folder{dir: filepath.Join(n.cfg.DataDir, "none")}
	if err := kept.saveIdentity(identity{ClusterID: n.clusterID(), NodeID: "n1", Epoch: p.Epoch, Recovering: p.Epoch + 1}); err != nil {
		t.Fatal(err)
	}
	n.member.Recovering = p.Epoch + 1
	n.recovered(p.Epoch + 1)
	n.rewrite()
	if n.epoch() != p.Epoch+1 {
		t.Errorf("it is of recovery %d in memory", n.epoch())
	}
	n.folder = kept
	n.rewrite()
	n.knows(t, p.Epoch+1)
}

// TestHearsOfARecoveryBeforeItFollows: a survivor hears of it from another one that
// follows already. It stands aside until it follows too, and not because nobody speaks of
// it any more; and never in the middle of following.
func TestHearsOfARecoveryBeforeItFollows(t *testing.T) {
	n := survivor(t)
	excluded := func() bool {
		return slices.ContainsFunc(n.raft.Status().Impaired, func(i consensus.Impairment) bool { return i.What == "excluded" })
	}
	follow := func(ctx context.Context, epoch uint64) error {
		return n.Follow(ctx, api.FollowOrder{ClusterID: n.clusterID(), Node: "n2", Epoch: epoch})
	}
	n.entering.Lock()
	if aside := n.standAside(0, "n3", 5); aside != 0 || excluded() {
		t.Errorf("in the middle of following: stands aside for %d", aside)
	}
	n.entering.Unlock()
	aside := n.standAside(0, "n3", 5)
	if aside != 5 || !excluded() || !n.outcast.Load() {
		t.Errorf("left behind: stands aside for %d", aside)
	}
	if aside = n.standAside(aside, "", 0); aside != 5 || !excluded() {
		t.Errorf("nobody speaks of it any more: stands aside for %d", aside)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := follow(gone, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("follows one that has left it behind: %v", err)
	}
	for range 2 { // the answer may be lost
		if err := follow(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
	}
	if err := follow(t.Context(), 4); !errors.Is(err, api.ErrBad) {
		t.Errorf("follows an older recovery: %v", err)
	}
	n.knows(t, 5)
	if aside = n.standAside(aside, "n3", 5); aside != 0 || excluded() || n.outcast.Load() {
		t.Errorf("follows: stands aside for %d", aside)
	}
	if aside = n.standAside(aside, "n3", 6); aside != 6 || !excluded() {
		t.Errorf("left behind by the next one: stands aside for %d", aside)
	}
}

// TestRecoveryOutlivesItsRequest, and not its node.
func TestRecoveryOutlivesItsRequest(t *testing.T) {
	life, stops := context.WithCancel(t.Context())
	asked, hangsUp := context.WithCancel(t.Context())
	ctx, cancel := (&Node{life: life}).outlive(asked)
	defer cancel()
	hangsUp()
	if ctx.Err() != nil {
		t.Error("it ends with its request")
	}
	stops()
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Error("it goes on when its node stops")
	}
}

// TestEpochs: what an earlier release has written counts as done, and later is higher.
func TestEpochs(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "data"))
	if err := f.replace(identityFile, []byte(`{"cluster_id": "c", "node_id": "n1", "peers": null, "epoch": 1}`)); err != nil {
		t.Fatal(err)
	}
	if id, _, err := f.identity("n1"); err != nil || id.Epoch != 1 || id.Recovering != 0 {
		t.Errorf("%+v, %v", id, err)
	}
	if got := nextEpoch(1, 1000); got != 1000 {
		t.Errorf("after 1 comes %d", got)
	}
	if got := nextEpoch(2000, 1000); got != 2001 {
		t.Errorf("with a clock that is behind, after 2000 comes %d", got)
	}
}
