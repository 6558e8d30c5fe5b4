package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/agent/pki"
	"orch/fsm"
)

// Protocol numbers what nodes say to each other. It rises with a change that a node of
// the release before would not understand; two that are one apart work together.
const Protocol = 1

// Admit implements api.Truster: into the table first, whence the leader takes the node
// into Raft, and only then does it get its certificate.
func (n *Node) Admit(ctx context.Context, q api.AdmitRequest, key string) (api.Admitted, error) {
	public, err := n.mayJoin(q, key)
	if err != nil {
		return api.Admitted{}, err
	}
	q.Node.Key = key
	if _, err := n.Propose(ctx, fsm.Admit{Node: q.Node, Token: pki.SecretDigest(q.Secret)}); err != nil {
		return api.Admitted{}, n.orSilent(ctx, q.Node, err)
	}
	if err := n.withoutVote(ctx, q.Node.ID); err != nil {
		return api.Admitted{}, err
	}
	poke, end := n.store.Subscribe()
	defer end()
	for {
		v := n.committed()
		if x, ok := v.Node(q.Node.ID); ok && x.Key == key {
			n.log.Info("node admitted", "joiner", q.Node.ID, "addr", q.Node.RaftAddr)
			return n.admitted(v, q.Node.ID, public)
		}
		select {
		case <-poke:
		case <-ctx.Done():
			return api.Admitted{}, fmt.Errorf("admit %s: %w", q.Node.ID, context.Cause(ctx))
		}
	}
}

// orSilent is err or, where that says that others hold an address of x and none of them
// answers, api.ErrUnreachable: the address is free as soon as they are called dead.
func (n *Node) orSilent(ctx context.Context, x fsm.Node, err error) error {
	if !errors.Is(err, fsm.ErrAddrInUse) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	for _, o := range n.committed().Holders(x) {
		if _, silent := n.peers.report(ctx, o.ID); silent == nil {
			return err
		}
	}
	return fmt.Errorf("%w of the node that has this address, which is free once 'orchctl nodes' calls that node dead; then give the same line again (%v)", api.ErrUnreachable, err)
}

// MayTry implements api.Truster.
func (n *Node) MayTry(from string) (ended func(error), err error) {
	ended, wait, crowded := n.refusals.tries(from)
	switch {
	case wait == 0:
		return ended, nil
	case crowded:
		return nil, fmt.Errorf("%w: %d joins from this address are under way: wait %s, then give the same line again", api.ErrTooMany, maxJoinsAtOnce, wait)
	}
	return nil, fmt.Errorf("%w: %d joins from this address have failed within %s: wait %s, then try with the line that 'orchctl token show' prints",
		api.ErrTooMany, maxFailedJoins, joinWindow, wait)
}

// mayJoin refuses what needs no leader to be refused, so that who guesses costs the
// cluster nothing. It returns the joiner's public key.
func (n *Node) mayJoin(q api.AdmitRequest, key string) (public any, err error) {
	if n.clusterID() == "" {
		return nil, fmt.Errorf("%w: run 'orchctl init' there, or name a node that is in one", api.ErrNotMember)
	}
	v := n.committed()
	if err := v.Trust.Admits(v, q.Node.ID, key, pki.SecretDigest(q.Secret), n.clock.now()); err != nil {
		return nil, err
	}
	public, digest, err := pki.ReadRequest(q.Request)
	switch skew := time.Since(time.UnixMilli(q.Now)); { // by the machine's clock, which certificates are made by
	case err != nil:
		return nil, fmt.Errorf("%w: %w", api.ErrBad, err)
	case key == "" || digest != key:
		return nil, fmt.Errorf("%w: the key of the request is not that of the connection", api.ErrBad)
	case !pki.ValidName(q.Node.ID):
		return nil, fmt.Errorf("%w: node ID %q: use 1 to 63 lower-case letters, digits, dots and dashes (--node-id)", api.ErrBad, q.Node.ID)
	case skew.Abs() > pki.MaxSkew:
		return nil, fmt.Errorf("%w: the clock of %s is %s away from the one here, and %s is the most: set it ('timedatectl set-ntp true') and join again", api.ErrBad, q.Node.ID, skew.Abs().Round(time.Second), pki.MaxSkew)
	case q.Protocol < Protocol-1 || q.Protocol > Protocol+1:
		return nil, fmt.Errorf("%w: %s (version %s) speaks protocol %d with other nodes, this one (version %s) protocol %d, and one apart is the most: install a version on it that is nearer, or upgrade this cluster first",
			api.ErrBad, q.Node.ID, q.Node.Version, q.Protocol, n.cfg.Version, Protocol)
	}
	return public, nil
}

// admitted is what the node gets that is in the table now.
func (n *Node) admitted(v *fsm.State, id string, public any) (api.Admitted, error) {
	a := api.Admitted{Admission: api.Admission{ClusterID: n.clusterID(), Nodes: v.Nodes, Epoch: n.epoch()}}
	cert, err := n.trust.sign(v, pki.Identity{Cluster: a.ClusterID, Node: id}, public, pki.LifeNode)
	if err != nil {
		return a, err
	}
	cas, err := authorities(v)
	if err != nil {
		return a, err
	}
	a.Certificate, a.Authorities = pki.EncodeCerts(cert), pki.EncodeCerts(cas...)
	a.ClusterKey, a.GossipKeys = n.trust.clusterKey(), n.trust.gossipKeys()
	return a, nil
}

// withoutVote takes away the vote of a node that joins although it has one: it has lost
// its data, and with them what it voted for and what it had acknowledged.
func (n *Node) withoutVote(ctx context.Context, id string) error {
	members, err := n.raft.Members()
	if err != nil || !slices.ContainsFunc(members, func(m consensus.Member) bool { return m.ID == id }) {
		return err
	}
	if leader, _ := n.raft.Leader(); leader == n.cfg.NodeID {
		return n.TakeVote(ctx, id)
	}
	c, err := n.peers.leader()
	if err != nil {
		return err
	}
	return reached(c.TakeVote(ctx, id))
}

// TakeVote implements api.Peer. The leader judges, whoever has judged before: a vote that
// the others need would stay, and they would have a configuration that never commits.
func (n *Node) TakeVote(ctx context.Context, id string) error {
	if leader, _ := n.raft.Leader(); leader != n.cfg.NodeID || id == leader {
		return fmt.Errorf("%w: another than node %s takes the vote of node %s, when it leads", api.ErrNoLeader, n.cfg.NodeID, id)
	}
	voters, why, err := n.judge(ctx, n.committed())
	if err != nil {
		return err
	}
	if lost := lacking(voters, why, id); lost != "" {
		return fmt.Errorf("%w: without the vote of node %s the others would have no majority, for %s: start or mend those first, then give this command again; 'orchctl status' shows when", api.ErrBad, id, lost)
	}
	n.log.Warn("a vote is taken: its node joins anew, or is removed by force", "member", id)
	return byConsensus(n.raft.Remove(ctx, id))
}

// JoinToken implements api.Truster: the token as a whole, for an admin's eyes.
func (n *Node) JoinToken(context.Context) (api.JoinToken, error) {
	v := n.view()
	t := v.Trust.Token
	if n.clusterID() == "" {
		return api.JoinToken{}, fmt.Errorf("%w: run 'orchctl init', or 'orchctl join'", api.ErrNotMember)
	}
	secret, err := pki.Open(n.trust.clusterKey(), tokenPurpose(t.Digest), t.Secret)
	if err != nil {
		return api.JoinToken{}, fmt.Errorf("join token: %w: 'orchctl token rotate' makes a new one", err)
	}
	token, err := pki.TokenOf(v.Trust.Signer, secret)
	if err != nil {
		return api.JoinToken{}, err
	}
	return api.JoinToken{Token: token.String(), Addr: n.cfg.APIAddr, Expires: time.UnixMilli(t.Expires).UTC(), Uses: t.Uses}, nil
}

// NewJoinToken implements api.Truster.
func (n *Node) NewJoinToken(ctx context.Context, o api.TokenOrder, by string) (api.JoinToken, error) {
	if n.clusterID() == "" {
		return api.JoinToken{}, fmt.Errorf("%w: run 'orchctl init', or 'orchctl join'", api.ErrNotMember)
	}
	t, err := newToken(n.view().Trust.Signer, n.trust.clusterKey(), n.clock.now()+o.TTLMS, o.Uses)
	if err != nil {
		return api.JoinToken{}, err
	}
	if _, err := n.Propose(ctx, fsm.PutToken{Token: t, By: by}); err != nil {
		return api.JoinToken{}, err
	}
	if err := n.until(ctx, func(v *fsm.State) bool { return v.Trust.Token.Digest == t.Digest }); err != nil {
		return api.JoinToken{}, err
	}
	return n.JoinToken(ctx)
}

// until waits until the table says so: the log's, or where that does not come the
// leader's.
func (n *Node) until(ctx context.Context, says func(*fsm.State) bool) error {
	poke, end := n.store.Subscribe()
	defer end()
	for !says(n.committed()) {
		select {
		case <-poke:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
