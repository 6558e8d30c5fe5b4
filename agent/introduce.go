package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"orch/fsm"
)

// introduces brings this node's own line of the table up to date after a start with
// another address or another release: a machine that comes back with a new IP is found
// again by nobody else. It ends when the table says what is.
func (n *Node) introduces(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.joined:
	}
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	var told error
	for {
		if old, ok := n.knownSelf(); ok {
			if !n.differs(old) {
				return nil
			}
			err := n.introduce(ctx)
			// While the table takes its old self for alive a move is refused: this might be
			// a second node of one name. Gossip ends that within seconds.
			if err != nil && !errors.Is(told, err) && ctx.Err() == nil {
				n.log.Info("the table has another address or version of this node; telling it", "reason", err)
				told = err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// differs says whether this node is another than the table has it, in what is its own to
// tell.
func (n *Node) differs(old fsm.Node) bool { return n.self().Keeping(old) != old }

// knownSelf is what the table says of this node or, until there is one, what it said
// when this node joined.
func (n *Node) knownSelf() (fsm.Node, bool) {
	all := n.known()
	i := slices.IndexFunc(all, func(x fsm.Node) bool { return x.ID == n.cfg.NodeID })
	if i < 0 {
		return fsm.Node{}, false
	}
	return all[i], true
}

// introduce proposes through the leader or, where this node can know none since the
// leader does not know its address, through whoever of the others leads.
func (n *Node) introduce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeInterval)
	defer cancel()
	c := fsm.PutNode{Node: n.self()}
	if id, _ := n.raft.Leader(); id != "" {
		_, err := n.Propose(ctx, c)
		return err
	}
	err := errors.New("no other node is known")
	for _, o := range n.known() {
		if o.ID == n.cfg.NodeID || o.Status == fsm.NodeLeft {
			continue
		}
		if _, err = n.peers.at(o.APIAddr).Propose(ctx, c); err == nil {
			return nil
		}
	}
	return err
}
