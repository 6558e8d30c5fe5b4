package agent

import (
	"context"
	"fmt"
	"time"

	"orch/agent/api"
	"orch/fsm"
)

// DrainNode implements api.Operator: the will is in the table, the leader does it.
func (n *Node) DrainNode(ctx context.Context, id string, within time.Duration, by string) error {
	v := n.committed()
	x, ok := v.Node(id)
	if !ok {
		return fmt.Errorf("%w: %q", fsm.ErrNoSuchNode, id)
	}
	others := 0
	for _, o := range v.Nodes {
		if o.ID != id && o.Status == fsm.NodeAlive && !o.Leaving() {
			others++
		}
	}
	switch {
	case x.Status == fsm.NodeDraining:
		return fmt.Errorf("%w: node %s is leaving already, which moves its containers too; 'orchctl status' shows how far it is", api.ErrBad, id)
	case others == 0:
		return fmt.Errorf("%w: no other node is alive and free to take the containers of %s: start or join one first, or 'orchctl undrain' one", api.ErrBad, id)
	}
	_, err := n.Propose(ctx, fsm.DrainNode{ID: id, Deadline: n.clock.now() + max(1, within.Milliseconds()), By: by})
	return err
}

// ImageID implements api.Operator. Where the engine does not answer nothing is known,
// and applying a spec goes on without.
func (n *Node) ImageID(ctx context.Context, image string) string {
	ctx, cancel := context.WithTimeout(ctx, imageTimeout)
	defer cancel()
	id, err := n.images.ImageID(ctx, image)
	if err != nil {
		n.log.Warn("what the image means here is not known: one that was built again under its tag looks like the one before", "image", image, "reason", err)
	}
	return id
}

// imageTimeout bounds the question: the engine answers within milliseconds, or is in
// trouble.
const imageTimeout = time.Second

// shownStatus is a node's status as `nodes` shows it: one that is drained says so.
func shownStatus(n fsm.Node) fsm.NodeStatus {
	if n.Status == fsm.NodeAlive && n.Leaving() {
		return fsm.NodeDraining
	}
	return n.Status
}
