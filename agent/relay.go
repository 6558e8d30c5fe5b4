package agent

import (
	"context"
	"fmt"
	"time"

	"orch/agent/api"
	"orch/fsm"
)

// A node whose disk takes no writes, or whose Raft port is shut, hears of no change by the
// log. It has no vote then, but it proxies, and it owns containers: from an old table it
// would send requests to what is to stop, and would end nothing. So it asks the leader for
// the table, and goes by that until its log has caught up.

// relayed is a table that a leader has given.
type relayed struct {
	leader string
	view   *fsm.State
}

const (
	// relayAfter is how long no leader is heard of before one is asked: elections of the
	// lan profile are over by then.
	relayAfter = time.Second
	// relayInterval is the time between two questions: a drain waits for it, and the table
	// of a busy cluster is under 2 MiB.
	relayInterval = 250 * time.Millisecond
	// relayTimeout bounds one of them.
	relayTimeout = time.Second
)

// LeaderView implements api.Peer.
func (n *Node) LeaderView(ctx context.Context) (*fsm.State, error) {
	if id, _ := n.raft.Leader(); id != n.cfg.NodeID {
		return nil, fmt.Errorf("%w: node %s does not lead", api.ErrNoLeader, n.cfg.NodeID)
	}
	if err := n.raft.Barrier(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	}
	return n.store.View(), nil
}

// relays asks for the table while this node hears no leader.
func (n *Node) relays(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.joined:
	}
	tick := time.NewTicker(relayInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		at := n.store.View().Applied
		switch since, r := n.raft.Leaderless(), n.relayed.Load(); {
		case since.IsZero() && r != nil && at >= r.view.Applied:
			if n.relayed.CompareAndSwap(r, nil) {
				n.log.Info("the log has caught up; the leader's table is asked for no more", "index", at)
			}
		case r != nil, !since.IsZero() && time.Since(since) >= relayAfter: // also while the log catches up
			n.relay(ctx)
		}
	}
}

// leaders are the nodes that may lead, in the order in which they are asked.
func (n *Node) leaders(old *relayed) []fsm.Node {
	var out []fsm.Node
	for _, o := range n.known() {
		switch {
		case o.ID == n.cfg.NodeID || o.Status == fsm.NodeLeft:
		case old != nil && o.ID == old.leader:
			out = append([]fsm.Node{o}, out...)
		default:
			out = append(out, o)
		}
	}
	return out
}

// leader is who leads, as far as this node knows by Raft or else by the API.
func (n *Node) leader() string {
	id, _ := n.raft.Leader()
	since, r := n.raft.Leaderless(), n.relayed.Load()
	switch {
	case since.IsZero():
		return id
	case r != nil:
		return r.leader
	case time.Since(since) < relayAfter:
		return id // the last one; most likely it leads on
	}
	return ""
}

// committed is the newest table that was committed, by the log or by the leader's word;
// unlike view, never what this node served before a restart.
func (n *Node) committed() *fsm.State {
	v := n.store.View()
	if r := n.relayed.Load(); r != nil && r.view.Changed > v.Changed {
		return r.view
	}
	return v
}

// orders is the table by which this node's worker goes.
type orders struct{ *Node }

func (o orders) View() *fsm.State { return o.committed() }

// relay takes the table of whoever leads: the one that did a moment ago is asked first.
func (n *Node) relay(ctx context.Context) {
	old, epoch := n.relayed.Load(), n.epoch()
	for _, o := range n.leaders(old) {
		limited, cancel := context.WithTimeout(ctx, relayTimeout)
		v, err := n.peers.at(o.APIAddr).Table(limited)
		cancel()
		if err != nil || v.ClusterID != n.clusterID() {
			continue
		}
		if n.epoch() != epoch || !n.relayed.CompareAndSwap(old, &relayed{o.ID, v}) {
			return // the cluster was recovered meanwhile: that table may be of before
		}
		if old == nil {
			n.log.Warn("no leader is heard by Raft; going by the table that it gives over the API", "leader", o.ID, "index", v.Applied)
		}
		if old == nil || v.Applied != old.view.Applied {
			n.store.Poke()
		}
		return
	}
	if old != nil && old.leader != "" {
		n.relayed.CompareAndSwap(old, &relayed{"", old.view}) // its word still counts, but it leads no more
	}
}
