package fsm

import (
	"fmt"
	"slices"
)

func (c PutNode) apply(d *draft) (any, error) {
	n := c.Node
	if n.ID == "" || n.RaftAddr == "" || n.APIAddr == "" {
		return nil, fmt.Errorf("%w: a node needs an ID, a Raft address and an API address", ErrOutOfRange)
	}
	if err := d.addrFree(n); err != nil {
		return nil, err
	}
	i, ok := findNode(d.Nodes, n.ID)
	if ok && n.Key == "" {
		n.Key = d.Nodes[i].Key
	}
	if d.Trust.IsRevoked(n.Key) {
		return nil, fmt.Errorf("%w: the key of node %s is shut out: start with an empty data folder, which makes a new key", ErrRefused, n.ID)
	}
	if !ok {
		n = n.Keeping(Node{Status: NodeAlive, Since: d.Stamp, Index: d.index})
		d.Nodes = slices.Insert(slices.Clone(d.Nodes), i, n)
		d.event("node-joined", "", 0, n.ID, n.Addr)
		return nil, nil
	}
	old := d.Nodes[i]
	if old.Key != "" && n.Key != old.Key {
		if old.Status != NodeLeft {
			return nil, fmt.Errorf("%w: node %s has another key", ErrExists, n.ID)
		}
		if err := d.revokeKey(old, true); err != nil {
			return nil, err
		}
	}
	moved := old.RaftAddr != n.RaftAddr || old.APIAddr != n.APIAddr
	if moved && !old.Status.gone() {
		return nil, fmt.Errorf("%w: node %s is %s at %s; choose another ID, or stop that node first", ErrExists, n.ID, old.Status, old.RaftAddr)
	}
	n = n.Keeping(old)
	if n.Status == NodeLeft {
		n.Status, n.Reason, n.DrainDeadline = NodeAlive, "", 0
	}
	if n == old {
		return nil, nil
	}
	if n.Status != old.Status {
		n.Since = d.Stamp
	}
	n.Index = d.index
	d.Nodes = slices.Clone(d.Nodes)
	d.Nodes[i] = n
	d.event("node-changed", "", 0, n.ID, n.Addr+" "+n.Version)
	return nil, nil
}

// addrFree says whether another node that is not gone holds an address of n.
func (d *draft) addrFree(n Node) error {
	held := d.Holders(n)
	if len(held) == 0 {
		return nil
	}
	o := held[0]
	return fmt.Errorf("%w: %s or %s is held by node %s (%s); give this node another address, or remove %s first",
		ErrAddrInUse, n.RaftAddr, n.APIAddr, o.ID, o.Status, o.ID)
}

func (c SetNodeStatus) apply(d *draft) (any, error) {
	if !c.Status.valid() {
		return nil, fmt.Errorf("%w: node status %q", ErrOutOfRange, c.Status)
	}
	i, ok := findNode(d.Nodes, c.ID)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchNode, c.ID)
	}
	if d.Nodes[i].Index > c.Seen {
		return nil, fmt.Errorf("%w: node %s", ErrStale, c.ID)
	}
	if d.Nodes[i].Status.gone() && !c.Status.gone() {
		if err := d.addrFree(d.Nodes[i]); err != nil {
			return nil, err
		}
	}
	if c.Revoke || c.Status == NodeLeft {
		if err := d.revokeKey(d.Nodes[i], !c.Revoke); err != nil {
			return nil, err
		}
	}
	d.Nodes = slices.Clone(d.Nodes)
	n := &d.Nodes[i]
	n.Leaves = n.ToldToLeave() && c.Status == NodeDead
	n.Status, n.Reason, n.Since, n.Index = c.Status, clip(c.Reason), d.Stamp, d.index
	d.event("node-"+string(c.Status), "", 0, c.ID, c.Reason)
	return nil, nil
}

func (c RemoveNode) apply(d *draft) (any, error) {
	i, ok := findNode(d.Nodes, c.ID)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchNode, c.ID)
	}
	if rows := d.RowsOn(c.ID); len(rows) > 0 {
		return nil, fmt.Errorf("%w: %s has %d", ErrNodeInUse, c.ID, len(rows))
	}
	if err := d.revokeKey(d.Nodes[i], false); err != nil {
		return nil, err
	}
	d.Nodes = slices.Delete(slices.Clone(d.Nodes), i, i+1)
	d.Leases = slices.DeleteFunc(slices.Clone(d.Leases), func(l Lease) bool { return l.Node == c.ID })
	d.event("node-removed", "", 0, c.ID, "")
	return nil, nil
}
