package agent

import (
	"testing"
	"time"

	"orch/fsm"
)

// TestExchangeAfterANodeHasGone: who was removed, or has left, knew the gossip key.
func TestExchangeAfterANodeHasGone(t *testing.T) {
	r := newRealm(t)
	for _, id := range []string{"n1", "n2", "n3"} {
		r.node(id)
	}
	x := exchange{now: time.Now().UnixMilli(), followed: map[string]uint64{}, fresh: func() (fsm.GossipKey, error) { return newGossipKey(r.key) }}
	plan := func() fsm.Command {
		t.Helper()
		for _, n := range r.store.View().Nodes {
			x.followed[n.ID] = r.store.View().Trust.Index
		}
		c, _, err := x.plan(r.store.View())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	seen := func(id string) uint64 { n, _ := r.store.View().Node(id); return n.Index }
	r.do(fsm.SetNodeStatus{ID: "n2", Seen: seen("n2"), Status: fsm.NodeLeft})
	if c := plan(); c != nil {
		t.Errorf("a node that was lost does not hear what it needs to hear: %+v", c)
	}
	r.do(fsm.SetNodeStatus{ID: "n3", Seen: seen("n3"), Status: fsm.NodeDraining})
	for _, gone := range []fsm.Command{fsm.RemoveNode{ID: "n2"}, fsm.SetNodeStatus{ID: "n3", Seen: seen("n3"), Status: fsm.NodeLeft}} {
		r.do(gone)
		r.ahead += 1000 // a look a second
		for _, want := range []int{2, 2, 1} {
			c := plan()
			if c == nil {
				t.Fatalf("%T: the gossip key stays", gone)
			}
			r.do(c)
			if got := len(r.store.View().Trust.Gossip); got != want {
				t.Errorf("%d gossip keys, want %d", got, want)
			}
		}
		if c := plan(); c != nil {
			t.Errorf("it does not end: %+v", c)
		}
	}
}
