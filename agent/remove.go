package agent

import (
	"context"
	"fmt"

	"orch/agent/api"
	"orch/fsm"
)

// RemoveNode implements api.Operator: a node that is lost loses its vote now rather
// than after a day, and one without containers is forgotten.
func (n *Node) RemoveNode(ctx context.Context, id string, force bool, by string) error {
	v := n.store.View()
	x, ok := v.Node(id)
	switch {
	case !ok:
		return fmt.Errorf("%w: %q", fsm.ErrNoSuchNode, id)
	case force && id == n.cfg.NodeID:
		return fmt.Errorf("%w: node %s can not shut itself out: run this on another node, or 'orchctl leave'", api.ErrBad, id)
	case force:
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
