package fsm

import (
	"fmt"
	"slices"
	"time"
)

// begin is the trust of a new cluster.
func (c InitCluster) begin(d *draft) {
	if c.Authority == nil {
		return // written by a cluster without authentication
	}
	t := &d.Trust
	a := *c.Authority
	a.Since = d.Stamp
	t.Authorities, t.Signer, t.Index = []Authority{a}, a.Digest, d.index
	if c.Gossip != nil {
		k := *c.Gossip
		k.Since = d.Stamp
		t.Gossip = []GossipKey{k}
	}
	if c.Token != nil {
		t.Token = *c.Token
		t.Token.Since = d.Stamp
	}
}

func (c Admit) apply(d *draft) (any, error) {
	n := c.Node
	if err := d.Trust.Admits(&d.State, n.ID, n.Key, c.Token, d.Stamp); err != nil {
		return nil, err
	}
	if !d.admitted(n.ID, n.Key) {
		d.Trust.Token.Uses--
	}
	return PutNode{Node: n}.apply(d)
}

// admitted says whether a node is in the table with that key: it joins again.
func (s *State) admitted(id, key string) bool {
	n, ok := s.Node(id)
	return ok && n.Status != NodeLeft && n.Key == key
}

// Admits says why a node with that key may not join by a token, given by its digest, at
// now (stamp, ms), or nil. One that joins again needs no token: its key says who it is.
func (t Trust) Admits(s *State, id, key, token string, now int64) error {
	old, known := s.Node(id)
	switch {
	case key == "":
		return fmt.Errorf("%w: node %s has shown no key", ErrOutOfRange, id)
	case t.IsRevoked(key):
		return fmt.Errorf("%w: this key was node %s's, which has left or was removed: start with an empty data folder, which makes a new key", ErrRefused, id)
	case s.admitted(id, key):
		return nil
	case t.Token.Digest == "" || t.Token.Digest != token:
		return fmt.Errorf("%w: the join token is not the one that is valid now: 'orchctl token show' on a node of the cluster prints that", ErrRefused)
	case now > t.Token.Expires:
		return fmt.Errorf("%w: the join token expired at %s: 'orchctl token rotate' on a node of the cluster makes a new one", ErrRefused, time.UnixMilli(t.Token.Expires).UTC().Format(time.RFC3339))
	case t.Token.Uses <= 0:
		return fmt.Errorf("%w: the join token is used up: 'orchctl token rotate' on a node of the cluster makes a new one", ErrRefused)
	case known && old.Status != NodeLeft: // only who has the token is told of names
		return fmt.Errorf("%w: node %s is in the cluster with another key (%s, %s): give this node another --node-id; if this is that machine and it has lost its data, first run 'orchctl remove %s' on another node once 'orchctl nodes' calls it dead",
			ErrExists, id, old.Status, old.RaftAddr, id)
	}
	return nil
}

func (c PutToken) apply(d *draft) (any, error) {
	if c.Token.Digest == "" || c.Token.Uses < 1 {
		return nil, fmt.Errorf("%w: a join token needs a digest and a use", ErrOutOfRange)
	}
	if c.Token.Digest == d.Trust.Token.Digest {
		return nil, nil // said twice; some of its uses may be spent
	}
	t := c.Token
	t.Since = d.Stamp
	d.Trust.Token = t
	d.event("token-made", "", 0, "", fmt.Sprintf("for %d nodes, until %s", t.Uses, time.UnixMilli(t.Expires).UTC().Format(time.RFC3339)))
	return nil, nil
}

func (c Grant) apply(d *draft) (any, error) {
	p := c.Person
	if p.Name == "" || p.Key == "" || !p.Role.Valid() {
		return nil, fmt.Errorf("%w: a grant needs a name, a key and a role of read, deploy or admin, not %q", ErrOutOfRange, p.Role)
	}
	i, ok := findPerson(d.Trust.People, p.Name)
	if ok {
		if p.Since = d.Trust.People[i].Since; p == d.Trust.People[i] {
			return nil, nil
		}
	}
	if !ok && len(d.Trust.People) >= MaxPeople {
		return nil, fmt.Errorf("%w: %d people have a grant, which is the most: 'orchctl revoke NAME' one first", ErrOutOfRange, MaxPeople)
	}
	p.Since = d.Stamp
	d.Trust.People = slices.Clone(d.Trust.People)
	if ok {
		d.Trust.People[i] = p
	} else {
		d.Trust.People = slices.Insert(d.Trust.People, i, p)
	}
	d.event("granted", "", 0, "", fmt.Sprintf("%s has the role %s", p.Name, p.Role))
	return nil, nil
}

func (c Revoke) apply(d *draft) (any, error) {
	i, ok := findPerson(d.Trust.People, c.Name)
	if !ok {
		return nil, fmt.Errorf("%w: %q has no grant", ErrNoSuchPerson, c.Name)
	}
	d.Trust.People = slices.Delete(slices.Clone(d.Trust.People), i, i+1)
	d.event("revoked", "", 0, "", c.Name)
	return nil, nil
}

// revokeKey shuts out the key of a node for as long as a certificate for it may be made.
// left says that the node has left, or counts as if it had; else it is removed by hand.
func (d *draft) revokeKey(n Node, left bool) error {
	if n.Key == "" {
		return nil
	}
	r := Revocation{Key: n.Key, Node: n.ID, Since: d.Stamp, Left: left, Lost: left && !n.ToldToLeave()}
	i, ok := findRevocation(d.Trust.Revoked, n.Key)
	switch {
	case ok && (left || !d.Trust.Revoked[i].Left):
		return nil // as it was, by hand or not
	case ok:
		r.Since = d.Trust.Revoked[i].At()
		d.Trust.Revoked = slices.Clone(d.Trust.Revoked)
		d.Trust.Revoked[i] = r
		return nil
	case len(d.Trust.Revoked) >= MaxRevoked:
		return fmt.Errorf("%w: the keys of %d nodes are shut out, which is the most: 'orchctl ca rotate' makes them all worthless", ErrOutOfRange, MaxRevoked)
	}
	d.Trust.Revoked = slices.Insert(slices.Clone(d.Trust.Revoked), i, r)
	return nil
}

// forgetKeys lets go of revocations that are older than every CA that is trusted: there
// is no certificate for those keys that counts, nor can there be one.
func (t *Trust) forgetKeys() {
	t.Revoked = slices.DeleteFunc(slices.Clone(t.Revoked), func(r Revocation) bool {
		return !slices.ContainsFunc(t.Authorities, func(a Authority) bool { return a.Since <= r.At() })
	})
	if len(t.Revoked) == 0 {
		t.Revoked = nil
	}
}

// trust returns the authorities and gossip keys for a change that was made from seen.
func (d *draft) trust(seen uint64) (*Trust, error) {
	if d.Trust.Index > seen {
		return nil, fmt.Errorf("%w: authorities or gossip keys", ErrStale)
	}
	d.Trust.Index = d.index
	return &d.Trust, nil
}

func (c AddAuthority) apply(d *draft) (any, error) {
	if _, ok := d.Trust.Authority(c.Authority.Digest); ok {
		return nil, nil
	}
	switch n := len(d.Trust.Authorities); {
	case n == 0:
		return nil, fmt.Errorf("%w: this cluster was made without a CA", ErrOutOfRange)
	case n > 1:
		return nil, fmt.Errorf("%w: a rotation of the CA is under way: 'orchctl status' shows what it waits for", ErrExists)
	}
	t, err := d.trust(c.Seen)
	if err != nil {
		return nil, err
	}
	a := c.Authority
	a.Since = d.Stamp
	t.Authorities = append(slices.Clone(t.Authorities), a)
	d.event("ca-added", "", 0, "", "a new CA is trusted beside the old one: "+short(a.Digest))
	return nil, nil
}

func (c SetSigner) apply(d *draft) (any, error) {
	if _, ok := d.Trust.Authority(c.Digest); !ok {
		return nil, fmt.Errorf("%w: no CA %s is trusted", ErrOutOfRange, short(c.Digest))
	}
	if d.Trust.Signer == c.Digest {
		return nil, nil
	}
	t, err := d.trust(c.Seen)
	if err != nil {
		return nil, err
	}
	t.Signer = c.Digest
	d.event("ca-signs", "", 0, "", "certificates are signed by the new CA: "+short(c.Digest))
	return nil, nil
}

func (c DropAuthority) apply(d *draft) (any, error) {
	if d.Trust.Signer == c.Digest {
		return nil, fmt.Errorf("%w: CA %s signs", ErrOutOfRange, short(c.Digest))
	}
	i := slices.IndexFunc(d.Trust.Authorities, func(a Authority) bool { return a.Digest == c.Digest })
	if i < 0 {
		return nil, nil
	}
	t, err := d.trust(c.Seen)
	if err != nil {
		return nil, err
	}
	t.Authorities = slices.Delete(slices.Clone(t.Authorities), i, i+1)
	t.forgetKeys()
	d.event("ca-dropped", "", 0, "", "the old CA is trusted no more: "+short(c.Digest))
	return nil, nil
}

func (c SetGossipKeys) apply(d *draft) (any, error) {
	if len(c.Keys) == 0 {
		return nil, fmt.Errorf("%w: gossip needs a key", ErrOutOfRange)
	}
	t, err := d.trust(c.Seen)
	if err != nil {
		return nil, err
	}
	keys := slices.Clone(c.Keys)
	for i := range keys {
		if keys[i].Since == 0 {
			keys[i].Since = d.Stamp
		}
	}
	t.Gossip = keys
	d.event("gossip-keys", "", 0, "", c.Reason)
	return nil, nil
}

func short(digest string) string { return digest[:min(12, len(digest))] }
