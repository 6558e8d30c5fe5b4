package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// Grant implements api.Truster.
func (n *Node) Grant(ctx context.Context, g api.GrantOrder, by string) (api.Granted, error) {
	if !pki.ValidName(g.Name) {
		return api.Granted{}, fmt.Errorf("%w: name %q: use 1 to 63 lower-case letters, digits, dots, dashes and underscores", api.ErrBad, g.Name)
	}
	public, key, err := pki.ReadRequest(g.Request)
	if err != nil {
		return api.Granted{}, fmt.Errorf("%w: %w", api.ErrBad, err)
	}
	life := min(time.Duration(g.TTLMS)*time.Millisecond, pki.LifePerson)
	until := time.Now().Add(life)
	p := fsm.Person{Name: g.Name, Role: g.Role, Key: key, Until: until.UnixMilli(), By: by}
	if _, err := n.Propose(ctx, fsm.Grant{Person: p}); err != nil {
		return api.Granted{}, err
	}
	n.untilAll(ctx, func(v *fsm.State) bool { x, ok := v.Trust.Person(p.Name); return ok && x.Key == key })
	v := n.view()
	cert, err := n.trust.sign(v, pki.Identity{Cluster: n.clusterID(), Person: g.Name}, public, life)
	if err != nil {
		return api.Granted{}, err
	}
	cas, err := authorities(v)
	if err != nil {
		return api.Granted{}, err
	}
	out := api.Granted{ClusterID: n.clusterID(), Name: g.Name, Role: g.Role, Certificate: pki.EncodeCerts(cert), Authorities: pki.EncodeCerts(cas...), Until: cert.NotAfter}
	for _, o := range v.Nodes {
		if o.Status != fsm.NodeLeft {
			out.Addrs = append(out.Addrs, o.APIAddr)
		}
	}
	return out, nil
}

// Revoke implements api.Truster.
func (n *Node) Revoke(ctx context.Context, name, by string) error {
	if _, err := n.Propose(ctx, fsm.Revoke{Name: name, By: by}); err != nil {
		return err
	}
	n.untilAll(ctx, func(v *fsm.State) bool { _, ok := v.Trust.Person(name); return !ok })
	return nil
}

// knownWithin bounds the wait until every node knows: two commits of the lan profile and
// a slow disk.
const knownWithin = time.Second

// untilAll waits until this node's table says so, and every node that answers is as far:
// what is handed out then works at once, everywhere.
func (n *Node) untilAll(ctx context.Context, says func(*fsm.State) bool) {
	until, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	if n.until(until, says) == nil {
		n.Unconfirmed(until)
	}
}

// Unconfirmed implements api.Truster: the nodes that do not answer, and those that do not
// say within a second that they have applied what the leader has; this one is none of the
// exceptions.
func (n *Node) Unconfirmed(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	goal, err := n.peers.leaderApplied(ctx)
	if err != nil {
		goal = n.committed().Applied // the leader has just died: what is known here
	}
	for {
		v := n.committed()
		said := n.reports(ctx, v)
		var silent, behind []string
		for _, o := range v.Nodes {
			r, ok := said[o.ID]
			if o.ID == n.cfg.NodeID {
				r.AppliedIndex, ok = v.Applied, true
			}
			switch {
			case o.Status == fsm.NodeLeft:
			case !ok:
				silent = append(silent, o.ID)
			case r.AppliedIndex < goal:
				behind = append(behind, o.ID)
			}
		}
		if len(behind) == 0 || ctx.Err() != nil {
			return slices.Sorted(slices.Values(append(silent, behind...)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(joinInterval):
		}
	}
}
