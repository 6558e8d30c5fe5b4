package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orch/agent/api"
	"orch/fsm"
)

// departs waits until the cluster has let this node go, then ends its run.
func (n *Node) departs(ctx context.Context) error {
	poke, end := n.store.Subscribe()
	defer end()
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		switch n.othersSay(ctx) {
		case saidGone:
			n.sayGoodBye(ctx)
			n.leaving(errLeft)
			return nil
		case saidLost:
			n.outcast.Store(true)
			n.raft.Exclude(fmt.Sprintf("the others take this node for one that has left (it was lost for too long, or left behind by a recovery): stop orchd, move %s away, start it and join anew", n.cfg.DataDir))
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-tick.C:
		}
	}
}

// verdict is what the other nodes say of this one.
type verdict int

const (
	saidNothing verdict = iota
	saidGone            // it has left as it was to, or was removed: it ends
	saidLost            // it has left, and knows nothing of it: a person must look
)

// sayGoodBye has gossip call this node left rather than dead.
func (n *Node) sayGoodBye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOver)
	defer cancel()
	if list := n.gossip.Load(); list != nil {
		if err := list.Leave(ctx); err != nil {
			n.log.Warn("the others will take this node for dead before they call it left", "reason", err)
		}
	}
}

// othersSay asks the other nodes whether this one has left, where that may be: its own
// table says so, or it knows no leader. That table may be old: the last word does not
// reach one that has no vote any more, nor one that was removed by hand, and one that
// joins anew first reads that it had left. So it takes the word of at least one other,
// and of every one that answers.
func (n *Node) othersSay(ctx context.Context) verdict {
	self, ok := n.committed().Node(n.cfg.NodeID)
	expected := ok && (self.Status == fsm.NodeLeft || self.Status == fsm.NodeDraining)
	if leader, _ := n.raft.Leader(); !expected && (leader != "" || n.clusterID() == "") {
		return saidNothing
	}
	return n.hear(ctx, expected)
}

func (n *Node) hear(ctx context.Context, expected bool) verdict {
	ctx, cancel := context.WithTimeout(ctx, probeInterval)
	defer cancel()
	said := saidNothing
	for _, o := range n.known() {
		if o.ID == n.cfg.NodeID || o.Status == fsm.NodeLeft || o.Status == fsm.NodeDead && expected {
			continue
		}
		nodes, err := n.peers.at(o.APIAddr).Nodes(ctx)
		switch {
		case errors.Is(err, api.ErrRemoved), errors.Is(err, api.ErrLeft) && expected:
			said = max(said, saidGone)
		case errors.Is(err, api.ErrLeft):
			said = saidLost
		case err != nil:
		case !expected || showsAs(nodes, n.cfg.NodeID, func(s fsm.NodeStatus) bool { return s != fsm.NodeLeft }):
			return saidNothing
		default:
			said = max(said, saidGone)
		}
	}
	return said
}

// showsAs says whether a list has a node whose status is so.
func showsAs(nodes []api.NodeInfo, id string, is func(fsm.NodeStatus) bool) bool {
	for _, x := range nodes {
		if x.ID == id && is(x.Status) {
			return true
		}
	}
	return false
}
