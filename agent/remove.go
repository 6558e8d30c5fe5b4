package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orch/agent/api"
	"orch/fsm"
)

// RemoveNode implements api.Operator: a node that is lost loses its vote now rather
// than after a day, and one without containers is forgotten.
func (n *Node) RemoveNode(ctx context.Context, id string, force bool, by string) error {
	v := n.committed()
	x, ok := v.Node(id)
	switch {
	case !ok:
		return fmt.Errorf("%w: %q", fsm.ErrNoSuchNode, id)
	case force && id == n.cfg.NodeID:
		return fmt.Errorf("%w: node %s can not shut itself out: run this on another node, or 'orchctl leave'", api.ErrBad, id)
	case force:
		if err := n.disarm(ctx, v, id); err != nil {
			return err
		}
	case x.Status == fsm.NodeDraining:
		return fmt.Errorf("%w: node %s is leaving already; 'orchctl status' shows how far it is", api.ErrBad, id)
	case x.Status != fsm.NodeDead && x.Status != fsm.NodeLeft:
		return fmt.Errorf("%w: node %s is %s: run 'orchctl leave' on it, so that no request fails; a lost one can be removed as soon as 'orchctl nodes' calls it dead, one that somebody has broken into now, with --force", api.ErrBad, id, x.Status)
	}
	var c fsm.Command = fsm.SetNodeStatus{ID: id, Seen: x.Index, Status: fsm.NodeLeft, Reason: "it was removed by hand", Revoke: true, By: by}
	if len(v.RowsOn(id)) == 0 {
		c = fsm.RemoveNode{ID: id, By: by}
	}
	if _, err := n.Propose(ctx, c); err != nil {
		return err
	}
	n.untilAll(ctx, func(v *fsm.State) bool { now, ok := v.Node(id); return !ok || now.Status == fsm.NodeLeft })
	return nil
}

// disarm takes leadership and vote from a node that is to be shut out while it is alive,
// before the others refuse to speak to it: afterwards they need nothing of it. Where they
// are no majority without it, nothing is done, for they could decide nothing any more.
func (n *Node) disarm(ctx context.Context, v *fsm.State, id string) error {
	voters, why, err := n.judge(ctx, v)
	if err != nil {
		return err
	}
	if lost := lacking(voters, why, id); lost != "" {
		return fmt.Errorf("%w: without node %s the others would have no majority, for %s: start or mend those first; if they are lost for good, stop orchd on %s or cut its network off, then 'orchctl recover' here makes a cluster of what is left", api.ErrBad, id, lost, id)
	}
	if n.leader() == id {
		if err := n.unseat(ctx, id, heir(voters, why, id, n.cfg.NodeID)); err != nil {
			return fmt.Errorf("%w: node %s leads and does not hand over (%w): stop orchd there or cut its network off; when 'orchctl status' names another leader, give this command again", api.ErrBad, id, err)
		}
	}
	return n.withoutVote(ctx, id)
}

// heir is the voter that shall lead instead of id: this node, where it can.
func heir(voters []string, why map[string]string, id, self string) string {
	best := ""
	for _, m := range voters {
		if _, not := why[m]; !not && m != id && (best == "" || m == self) {
			best = m
		}
	}
	return best
}

// unseatTimeout bounds the handing over by a node that may be in other hands.
const unseatTimeout = 3 * time.Second

// unseat has a node hand leadership to another, and waits until that is known here.
func (n *Node) unseat(ctx context.Context, id, to string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, unseatTimeout, errors.New("it took too long"))
	defer cancel()
	if err := n.Transfer(ctx, to, ""); err != nil {
		return err
	}
	for {
		if leader := n.leader(); leader != "" && leader != id {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(caughtUpInterval):
		}
	}
}
