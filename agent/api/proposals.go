package api

import (
	"fmt"
	"strings"

	"orch/fsm"
)

// asked are the commands that a node passes on for a person, and the role that it takes.
// What is in neither this table nor mayPropose, the leader alone decides: no other node
// may propose it.
var asked = map[fsm.Kind]fsm.Role{
	fsm.KindPutService: fsm.RoleDeploy, fsm.KindRemoveService: fsm.RoleDeploy, fsm.KindScaleByHand: fsm.RoleDeploy, fsm.KindRollBack: fsm.RoleDeploy,
	fsm.KindSetNodeStatus: fsm.RoleAdmin, fsm.KindRemoveNode: fsm.RoleAdmin, fsm.KindDrainNode: fsm.RoleAdmin, fsm.KindNote: fsm.RoleAdmin,
	fsm.KindPutToken: fsm.RoleAdmin, fsm.KindGrant: fsm.RoleAdmin, fsm.KindRevoke: fsm.RoleAdmin,
	fsm.KindAddAuthority: fsm.RoleAdmin, fsm.KindSetGossipKeys: fsm.RoleAdmin,
}

// mayPropose says why a node may not have the leader commit a command: it speaks for
// itself alone, and passes on what people ask.
func mayPropose(who Identity, v *fsm.State, c fsm.Command) error {
	own := func(node string) error {
		if node != who.Node {
			return fmt.Errorf("%w: node %s may not speak for node %q", ErrForbidden, who.Node, node)
		}
		return nil
	}
	switch c := c.(type) {
	case fsm.Observe:
		return own(c.Node)
	case fsm.TakeTurns:
		return own(c.Node)
	case fsm.PutNode:
		if c.Node.Key != "" && c.Node.Key != who.Key {
			return fmt.Errorf("%w: node %s shows another key than it proposes", ErrForbidden, who.Node)
		}
		return own(c.Node.ID)
	case fsm.Admit:
		return nil // the token in it says that it may be
	case fsm.SetNodeStatus:
		leaves := c.ID == who.Node && c.Status == fsm.NodeDraining && !c.Revoke
		if removed := c.Status == fsm.NodeLeft && c.Revoke; !leaves && !removed {
			return fmt.Errorf("%w: that node %q is %s, the leader finds by itself", ErrForbidden, c.ID, c.Status)
		}
	case fsm.SetGossipKeys:
		if g := v.Trust.Gossip; len(c.Keys) != 2 || len(g) == 0 || c.Keys[0].ID != g[0].ID {
			return fmt.Errorf("%w: node %s may add a gossip key, and the leader does the rest", ErrForbidden, who.Node)
		}
	}
	least, ok := asked[c.Kind()]
	if !ok {
		return fmt.Errorf("%w: the leader alone decides that (command %d)", ErrForbidden, c.Kind())
	}
	by := fsm.Author(c)
	if strings.HasSuffix(by, " on "+who.Node) { // by its socket
		return nil
	}
	if p, ok := v.Trust.Person(by); !ok || !p.Role.Includes(least) {
		return fmt.Errorf("%w: %q has not the role %s that command %d of node %s takes", ErrForbidden, by, least, c.Kind(), who.Node)
	}
	return nil
}
