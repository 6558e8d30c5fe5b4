package agent

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// gossipLife is how long a gossip key is written with. Keys are exchanged for what may
// have leaked unseen: old backups, a machine that was given away.
const gossipLife = 30 * 24 * time.Hour

// exchange is what the leader knows when it looks at the keys of the cluster.
type exchange struct {
	now      int64             // stamp, ms
	followed map[string]uint64 // by node: the Trust.Index that it uses
	fresh    func() (fsm.GossipKey, error)
}

// plan is the next step of an exchange of keys, or what it waits for. New keys are known
// to all before anybody uses them, and old ones go when nobody does: at no moment do two
// nodes fail to understand each other.
func (x exchange) plan(v *fsm.State) (c fsm.Command, waits string, err error) {
	t := v.Trust
	if len(t.Authorities) == 0 {
		return nil, "", nil
	}
	behind := x.behind(v)
	switch {
	case len(t.Authorities) > 1 && behind != "":
		return nil, "the exchange of the CA waits for " + behind, nil
	case len(t.Authorities) > 1 && t.Signer == t.Authorities[0].Digest:
		return fsm.SetSigner{Seen: t.Index, Digest: t.Authorities[1].Digest}, "", nil
	case len(t.Authorities) > 1:
		return fsm.DropAuthority{Seen: t.Index, Digest: t.Authorities[0].Digest}, "", nil
	case len(t.Gossip) > 1 && behind != "":
		return nil, "the exchange of the gossip key waits for " + behind, nil
	case len(t.Gossip) > 1 && t.Gossip[1].Since > t.Gossip[0].Since:
		return fsm.SetGossipKeys{Seen: t.Index, Keys: []fsm.GossipKey{t.Gossip[1], t.Gossip[0]}, Reason: "gossip is written with the new key"}, "", nil
	case len(t.Gossip) > 1:
		return fsm.SetGossipKeys{Seen: t.Index, Keys: t.Gossip[:1], Reason: "the old gossip key is gone"}, "", nil
	case len(t.Gossip) == 0 || !x.stale(t):
		return nil, "", nil
	}
	k, err := x.fresh()
	if err != nil {
		return nil, "", err
	}
	return fsm.SetGossipKeys{Seen: t.Index, Keys: []fsm.GossipKey{t.Gossip[0], k}, Reason: "a new gossip key is known to all"}, "", nil
}

// stale says whether the gossip key is old, or known to a node that has left or was
// removed since. One that was lost is to hear of it when it comes back: with others like
// it, it could else take itself for the cluster.
func (x exchange) stale(t fsm.Trust) bool {
	since := t.Gossip[0].Since
	if x.now-since > gossipLife.Milliseconds() {
		return true
	}
	return slices.ContainsFunc(t.Revoked, func(r fsm.Revocation) bool { return !r.Lost && r.At() >= since })
}

// behind names the nodes that do not use the newest keys yet, dead ones too: a node that
// came back to keys that are gone could not speak to anybody.
func (x exchange) behind(v *fsm.State) string {
	var names []string
	for _, n := range v.Nodes {
		if n.Status != fsm.NodeLeft && x.followed[n.ID] < v.Trust.Index {
			names = append(names, fmt.Sprintf("node %s (%s)", n.ID, n.Status))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return strings.Join(names, ", ") + ": start it, or 'orchctl remove' it if it is lost for good"
}

// rotates is the leader's part in exchanges of keys.
func (n *Node) rotates(ctx context.Context) error {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	var failing string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if id, _ := n.raft.Leader(); id != n.cfg.NodeID || n.clusterID() == "" {
			continue
		}
		c, _, err := n.exchange(ctx).plan(n.store.View())
		if c != nil && err == nil {
			_, err = n.ProposeHere(ctx, c)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, fsm.ErrStale) && err.Error() != failing {
			failing = err.Error()
			n.log.Warn("keys not exchanged; it is tried again each second", "reason", err)
		}
	}
}

// exchange asks the nodes how far they follow, where there is something to wait for.
func (n *Node) exchange(ctx context.Context) exchange {
	v := n.store.View()
	x := exchange{now: n.clock.now(), followed: map[string]uint64{}, fresh: func() (fsm.GossipKey, error) { return newGossipKey(n.trust.clusterKey()) }}
	if len(v.Trust.Authorities) < 2 && len(v.Trust.Gossip) < 2 {
		return x
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for id, r := range n.reports(ctx, v) {
		x.followed[id] = r.TrustIndex
	}
	return x
}

// RotateCA implements api.Truster: a new CA is trusted; the leader does the rest.
func (n *Node) RotateCA(ctx context.Context, by string, key crypto.PublicKey) (api.Rotated, error) {
	v := n.view()
	if n.clusterID() == "" {
		return api.Rotated{}, fmt.Errorf("%w: run 'orchctl init', or 'orchctl join'", api.ErrNotMember)
	}
	a, err := newAuthority(n.clusterID(), n.trust.clusterKey())
	if err != nil {
		return api.Rotated{}, err
	}
	_, err = n.Propose(ctx, fsm.AddAuthority{Seen: v.Trust.Index, Authority: a, By: by})
	if err != nil && !errors.Is(err, fsm.ErrExists) {
		return api.Rotated{}, err
	}
	out := api.Rotated{Begun: err == nil}
	if key == nil {
		return out, nil
	}
	out.Certificate, out.Authorities, err = n.certifyAnew(ctx, by, key)
	return out, err
}

// certifyAnew makes a person who has a grant a certificate of the newest CA, for the same
// key and until the same day. Every node that answers trusts it by then.
func (n *Node) certifyAnew(ctx context.Context, name string, key crypto.PublicKey) (cert, cas []byte, err error) {
	if err := n.caughtUp(ctx); err != nil {
		return nil, nil, fmt.Errorf("%w: type the command again", err)
	}
	v := n.committed()
	who := pki.Identity{Cluster: n.clusterID(), Person: name}
	if who.Key, err = pki.KeyDigest(key); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", api.ErrBad, err)
	}
	p, ok := v.Trust.Person(name)
	if !ok || p.Key != who.Key { // revoked since the request came
		return nil, nil, n.trust.check(who)
	}
	n.untilFollowed(ctx, v.Trust.Index)
	made, err := n.trust.sign(v, who, key, time.Until(time.UnixMilli(p.Until)))
	if err != nil {
		return nil, nil, err
	}
	trusted, err := authorities(v)
	if err != nil {
		return nil, nil, err
	}
	return pki.EncodeCerts(made), pki.EncodeCerts(trusted...), nil
}

// untilFollowed waits until every node that answers uses the keys of a Trust.Index, for
// knownWithin at the most.
func (n *Node) untilFollowed(ctx context.Context, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, knownWithin)
	defer cancel()
	for {
		behind := false
		for _, followed := range n.exchange(ctx).followed {
			behind = behind || followed < index
		}
		if !behind {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(joinInterval):
		}
	}
}

// RotateGossip implements api.Truster.
func (n *Node) RotateGossip(ctx context.Context, by string) error {
	t := n.view().Trust
	switch {
	case n.clusterID() == "" || len(t.Gossip) == 0:
		return fmt.Errorf("%w: run 'orchctl init', or 'orchctl join'", api.ErrNotMember)
	case len(t.Gossip) > 1:
		return fmt.Errorf("%w: an exchange of the gossip key is under way: 'orchctl trust' shows what it waits for", fsm.ErrExists)
	}
	k, err := newGossipKey(n.trust.clusterKey())
	if err != nil {
		return err
	}
	_, err = n.Propose(ctx, fsm.SetGossipKeys{Seen: t.Index, Keys: []fsm.GossipKey{t.Gossip[0], k}, Reason: "a new gossip key is known to all", By: by})
	return err
}

// Trust implements api.Truster.
func (n *Node) Trust(ctx context.Context) (api.Trust, error) {
	c := n.trust.live.Get()
	if c == nil {
		return api.Trust{}, fmt.Errorf("%w: run 'orchctl init', or 'orchctl join'", api.ErrNotMember)
	}
	t := n.view().Trust
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	out := api.Trust{
		Node:  api.CertInfo{Node: n.cfg.NodeID, CA: c.Issuer(), Until: c.Cert.NotAfter, Renew: pki.RenewAt(c.Cert, n.trust.chance)},
		Token: api.TokenInfo{Expires: at(t.Token.Expires), Uses: t.Token.Uses}, Authorities: []api.AuthorityInfo{},
		Gossip: []api.KeyInfo{}, People: []api.PersonInfo{}, Revoked: []api.RevokedInfo{},
	}
	cas, err := authorities(n.view())
	if err != nil {
		return out, err
	}
	for i, a := range t.Authorities {
		out.Authorities = append(out.Authorities, api.AuthorityInfo{Digest: a.Digest, Signs: a.Digest == t.Signer, Since: at(a.Since), Until: cas[i].NotAfter})
	}
	for _, k := range t.Gossip {
		out.Gossip = append(out.Gossip, api.KeyInfo{ID: k.ID, Since: at(k.Since)})
	}
	for _, p := range t.People {
		out.People = append(out.People, api.PersonInfo{Name: p.Name, Role: p.Role, Until: at(p.Until), By: p.By})
	}
	for _, r := range t.Revoked {
		out.Revoked = append(out.Revoked, api.RevokedInfo{Node: r.Node, Since: at(r.At())})
	}
	_, out.Pending, err = n.exchange(ctx).plan(n.store.View())
	return out, err
}
