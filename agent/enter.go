package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// What the first token allows: the nodes of a cluster are set up within a day, and
// fifteen are as many as have a say in any.
const (
	tokenLife = 24 * time.Hour
	tokenUses = 16
)

// Init makes a cluster of this one node. It may be repeated until it has succeeded.
func (n *Node) Init(ctx context.Context, by string) (api.Admission, error) {
	n.entering.Lock()
	defer n.entering.Unlock()
	if id := n.clusterID(); id != "" {
		return api.Admission{}, fmt.Errorf("%w: %s; 'orchctl nodes' shows who is in it", api.ErrMember, id)
	}
	failed := func(err error) (api.Admission, error) {
		return api.Admission{}, fmt.Errorf("make the cluster: %w", err)
	}
	key, err := n.folder.nodeKey()
	if err != nil {
		return failed(err)
	}
	clusterKey, err := n.folder.clusterKey(true)
	if err != nil {
		return failed(err)
	}
	if !n.raft.HasState() { // else an init that was cut off is finished
		if err := n.raft.Bootstrap(ctx); err != nil {
			return failed(err)
		}
	}
	begin, err := newCluster(clusterKey, n.clock.now(), by)
	if err != nil {
		return failed(err)
	}
	if err := n.untilLeading(ctx, begin); err != nil && !errors.Is(err, fsm.ErrForeign) { // the ID of the init that was cut off counts
		return failed(err)
	}
	self := n.self()
	if self.Key, err = pki.KeyDigest(key.Public()); err != nil {
		return failed(err)
	}
	if err := n.untilLeading(ctx, fsm.PutNode{Node: self}); err != nil {
		return failed(err)
	}
	v := n.store.View()
	n.trust.mu.Lock()
	n.trust.cluster = clusterKey
	n.trust.mu.Unlock()
	cert, err := n.trust.sign(v, pki.Identity{Cluster: v.ClusterID, Node: n.cfg.NodeID}, key.Public(), pki.LifeNode)
	if err != nil {
		return failed(fmt.Errorf("%w; if an init was cut off here long ago, move %s away and begin anew", err, n.cfg.DataDir))
	}
	cas, err := authorities(v)
	if err != nil {
		return failed(err)
	}
	gossip, err := n.trust.openGossip(v)
	if err != nil {
		return failed(err)
	}
	c := pki.Credentials{Cluster: v.ClusterID, Key: key, Cert: cert, CAs: cas}
	if err := n.enter(c, clusterKey, gossip, identity{ClusterID: v.ClusterID, NodeID: n.cfg.NodeID, Peers: []fsm.Node{self}}); err != nil {
		return failed(err)
	}
	token, err := n.JoinToken(ctx)
	return api.Admission{ClusterID: v.ClusterID, Nodes: v.Nodes, Token: token}, err
}

// newCluster chooses everything that chance decides in a new cluster.
func newCluster(clusterKey []byte, now int64, by string) (fsm.InitCluster, error) {
	c := fsm.InitCluster{ClusterID: newClusterID(), By: by}
	a, err := newAuthority(c.ClusterID, clusterKey)
	if err != nil {
		return c, err
	}
	g, err := newGossipKey(clusterKey)
	if err != nil {
		return c, err
	}
	t, err := newToken(a.Digest, clusterKey, now+tokenLife.Milliseconds(), tokenUses)
	c.Authority, c.Gossip, c.Token = &a, &g, &t
	return c, err
}

func newAuthority(cluster string, clusterKey []byte) (fsm.Authority, error) {
	ca, err := pki.NewCA(cluster, time.Now())
	if err != nil {
		return fsm.Authority{}, err
	}
	key, err := ca.Key()
	if err != nil {
		return fsm.Authority{}, err
	}
	a := fsm.Authority{Digest: pki.Digest(ca.Cert), Cert: ca.Cert.Raw}
	a.Key, err = pki.Seal(clusterKey, caPurpose(a.Digest), key)
	return a, err
}

func newGossipKey(clusterKey []byte) (fsm.GossipKey, error) {
	key, id := make([]byte, gossipKeyLen), make([]byte, 8)
	rand.Read(key) // never fails (crypto/rand)
	rand.Read(id)
	k := fsm.GossipKey{ID: hex.EncodeToString(id)}
	var err error
	k.Key, err = pki.Seal(clusterKey, gossipPurpose(k.ID), key)
	return k, err
}

func newToken(ca string, clusterKey []byte, expires int64, uses int) (fsm.JoinToken, error) {
	t, err := pki.NewToken(ca)
	if err != nil {
		return fsm.JoinToken{}, err
	}
	out := fsm.JoinToken{Digest: t.Digest(), Expires: expires, Uses: uses}
	out.Secret, err = pki.Seal(clusterKey, tokenPurpose(out.Digest), t.Secret[:])
	return out, err
}

// enter makes this node a member: its keys on disk first, its identity last.
func (n *Node) enter(c pki.Credentials, clusterKey []byte, gossip [][]byte, id identity) error {
	done, err := c.Complete()
	if err != nil {
		return err
	}
	if err := n.folder.saveClusterKey(clusterKey); err != nil {
		return err
	}
	if err := n.folder.saveGossipKeys(gossip); err != nil {
		return err
	}
	if err := n.folder.saveCredentials(done); err != nil {
		return err
	}
	n.trust.use(done, clusterKey, gossip)
	return n.become(id)
}

func (n *Node) untilLeading(ctx context.Context, c fsm.Command) error {
	for {
		_, err := n.ProposeHere(ctx, c)
		if !errors.Is(err, api.ErrNoLeader) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Join has the cluster of the node at addr take this node in. It may be repeated.
func (n *Node) Join(ctx context.Context, addr, token string) (api.Admission, error) {
	n.entering.Lock()
	defer n.entering.Unlock()
	if id := n.clusterID(); id != "" {
		return api.Admission{}, fmt.Errorf("%w: %s; to move it, let it leave first ('orchctl leave')", api.ErrMember, id)
	}
	if host, _, err := net.SplitHostPort(addr); err != nil || net.ParseIP(host) == nil {
		return api.Admission{}, fmt.Errorf("%w: address %q: give the API of a node of the cluster as IP:PORT, for example 10.0.0.1:%d", api.ErrBad, addr, PortAPI)
	}
	t, err := pki.ParseToken(token)
	if err != nil {
		return api.Admission{}, fmt.Errorf("%w: %w", api.ErrBad, err)
	}
	if alone, err := n.startedAlone(); err != nil || alone {
		return api.Admission{}, errors.Join(err, fmt.Errorf("%w: an init was cut off here: finish it with 'orchctl init', or stop orchd and move %s away, then join", api.ErrMember, n.cfg.DataDir))
	}
	a, err := n.untilAdmitted(ctx, addr, t)
	if err != nil {
		return api.Admission{}, fmt.Errorf("join: %w", err)
	}
	return a.Admission, n.untilVoter(ctx, a.ClusterID)
}

// untilAdmitted asks again while the address of this node is held by one that does not
// answer: a machine that is set up anew under another name may be faster than the
// cluster, which takes some seconds to call the old one dead.
func (n *Node) untilAdmitted(ctx context.Context, addr string, t pki.Token) (api.Admitted, error) {
	var held error
	for {
		a, err := n.askAdmission(ctx, addr, t)
		var said *api.Error // by the cluster; a cluster that is not reached is not waited for
		switch {
		case errors.As(err, &said) && errors.Is(said, api.ErrUnreachable):
			if held == nil {
				n.log.Info("the address of this node is another's in the table; waiting until that one is called dead", "reason", err)
			}
			held = err
		case held != nil && ctx.Err() != nil:
			return a, held
		default:
			return a, err
		}
		select {
		case <-ctx.Done():
			return a, held
		case <-time.After(askAgain):
		}
	}
}

// askAgain is the time between two requests for an address that is held, each of which
// is an entry of the cluster's log.
const askAgain = 500 * time.Millisecond

// askAdmission shows the token to the cluster that it names, and takes what it gives.
func (n *Node) askAdmission(ctx context.Context, addr string, t pki.Token) (api.Admitted, error) {
	key, err := n.folder.nodeKey()
	if err != nil {
		return api.Admitted{}, err
	}
	request, err := pki.Request(key)
	if err != nil {
		return api.Admitted{}, err
	}
	tls, err := pki.Joining(key, t.CA, time.Now)
	if err != nil {
		return api.Admitted{}, err
	}
	conns := pki.NewConns()
	c := api.NewClient(addr, &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, joinDial)
		defer cancel()
		return conns.Dial(ctx, addr, tls)
	}})
	defer c.Close()
	q := api.AdmitRequest{Node: n.self(), Secret: t.Secret[:], Request: request, Now: time.Now().UnixMilli(), Protocol: Protocol}
	if q.Node.Key, err = pki.KeyDigest(key.Public()); err != nil {
		return api.Admitted{}, err
	}
	a, err := c.Admit(ctx, q)
	if err != nil {
		return a, err
	}
	certs, err := pki.DecodeCerts(a.Certificate)
	if err != nil {
		return a, fmt.Errorf("answer of %s: %w", addr, err)
	}
	cas, err := pki.DecodeCerts(a.Authorities)
	if err != nil {
		return a, fmt.Errorf("answer of %s: %w", addr, err)
	}
	if id, err := pki.IdentityOf(certs[0]); err != nil || id.Node != n.cfg.NodeID || id.Cluster != a.ClusterID {
		return a, fmt.Errorf("answer of %s: its certificate is for %s", addr, id)
	}
	creds := pki.Credentials{Cluster: a.ClusterID, Key: key, Cert: certs[0], CAs: cas}
	return a, n.enter(creds, a.ClusterKey, a.GossipKeys, identity{ClusterID: a.ClusterID, NodeID: n.cfg.NodeID, Peers: a.Nodes, Epoch: a.Epoch})
}

// joinDial bounds the connection to the cluster: a person waits, over any network.
const joinDial = 5 * time.Second

// untilVoter waits until the leader, which adds this node to Raft by itself, has given it
// a vote. Only then does the cluster outlive the loss of one more node.
func (n *Node) untilVoter(ctx context.Context, cluster string) error {
	tick := time.NewTicker(joinInterval)
	defer tick.Stop()
	for {
		if _, ok := n.store.View().Node(n.cfg.NodeID); ok && n.raft.Status().Voter {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("admitted to cluster %s, but without a vote yet: can its leader reach %s? ('orchctl status' there says more; the vote comes by itself when it can)", cluster, n.cfg.RaftAddr)
		}
	}
}

// startedAlone says whether this node's log is that of a cluster of its own, which
// begins with a configuration of this node alone: in another cluster its entries would
// be taken for that one's. A log that has come from a leader names that leader.
func (n *Node) startedAlone() (bool, error) {
	members, err := n.raft.Members()
	if err != nil {
		return false, err
	}
	return n.raft.HasState() && len(members) == 1 && members[0].ID == n.cfg.NodeID, nil
}

// joinInterval is the time between two looks whether this node has a vote.
const joinInterval = 20 * time.Millisecond
