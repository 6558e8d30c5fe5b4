package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// trust is what this node knows others by, and is known by: its keys, kept in step with
// the table, and the check of whoever connects.
type trust struct {
	id     string // of this node
	folder *folder
	table  func() *fsm.State
	log    *slog.Logger
	live   pki.Live
	conns  *pki.Conns
	chance float64 // spreads renewals over the nodes
	// known are the nodes of the table or, until there is one, of the admission.
	known  func() []fsm.Node
	leader atomic.Pointer[func() string] // whom Raft follows; nil until Raft runs

	unsaved bool // credentials in use are not on disk; keepUp's alone

	mu       sync.Mutex
	cluster  []byte   // key of the cluster; nil until this node is in one
	gossip   [][]byte // keys of gossip
	followed uint64   // Trust.Index that this node uses
	trouble  error    // why it does not follow
	since    time.Time
}

func newTrust(id string, f *folder, table func() *fsm.State, log *slog.Logger) *trust {
	known := func() []fsm.Node { return table().Nodes }
	return &trust{id: id, folder: f, table: table, known: known, log: log, conns: pki.NewConns(), chance: rand.Float64()}
}

// load reads the keys of a member.
func (t *trust) load(member identity) error {
	hint := func(err error) error {
		return fmt.Errorf("%w: the keys of %s are not complete: %w; restore them from a backup of this node, or run 'orchctl remove %s' on another node, move the folder away and join anew",
			ErrFolder, t.folder.dir, err, member.NodeID)
	}
	c, err := t.folder.credentials(member.ClusterID)
	if err != nil {
		return hint(err)
	}
	if id, err := c.Identity(); err != nil || id.Node != member.NodeID || id.Cluster != member.ClusterID {
		return hint(fmt.Errorf("%s is of %s in cluster %s", certFile, id, id.Cluster))
	}
	key, err := t.folder.clusterKey(false)
	if err != nil {
		return hint(err)
	}
	gossip, err := t.folder.gossipKeys()
	if err != nil {
		return hint(err)
	}
	t.use(c, key, gossip)
	return nil
}

func (t *trust) use(c *pki.Credentials, cluster []byte, gossip [][]byte) {
	t.live.Set(c)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cluster, t.gossip = cluster, gossip
}

// key is the digest of this node's public key, empty until it has a certificate.
func (t *trust) key() string {
	c := t.live.Get()
	if c == nil {
		return ""
	}
	id, err := c.Identity()
	if err != nil {
		return ""
	}
	return id.Key
}

func (t *trust) clusterKey() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cluster
}

func (t *trust) gossipKeys() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gossip
}

// check says why one whose certificate is in order is shut out all the same.
func (t *trust) check(who pki.Identity) error {
	v := t.table()
	if who.Person != "" {
		if p, ok := v.Trust.Person(who.Person); !ok || p.Key != who.Key {
			return fmt.Errorf("%w: %s has no grant, or a newer one: an admin makes a new bundle with 'orchctl grant %s --role ROLE'", api.ErrRemoved, who.Person, who.Person)
		}
		return nil
	}
	r, gone := v.Trust.Revocation(who.Key)
	n, ok := v.Node(who.Node)
	switch {
	case gone && r.Left && !r.Lost:
		return fmt.Errorf("%w: node %s was told to leave, and has left: it may join anew with an empty data folder", api.ErrRemoved, who.Node)
	case gone && r.Left, !gone && ok && n.Key == who.Key && n.Status == fsm.NodeLeft:
		return fmt.Errorf("node %s %w: stop orchd there, move its data folder away and join anew", who.Node, api.ErrLeft)
	case gone:
		return fmt.Errorf("%w: node %s was removed from this cluster, its key with it: it may join anew with an empty data folder", api.ErrRemoved, who.Node)
	}
	return nil
}

// member refuses a node that the table does not have with that key. It may have been let
// in while this node was away; then the table will say so when it has caught up.
func (t *trust) member(who pki.Identity) error {
	for _, n := range t.known() {
		if n.ID == who.Node && n.Key == who.Key {
			return nil
		}
	}
	return fmt.Errorf("%w: node %s with that key is not in the table of node %s, or not yet", api.ErrForbidden, who.Node, t.id)
}

// checkNode lets nodes in and nobody else.
func (t *trust) checkNode(who pki.Identity) error {
	if who.Node == "" {
		return fmt.Errorf("%s is not a node", who)
	}
	return t.check(who)
}

// checkMember lets in the nodes of the table.
func (t *trust) checkMember(who pki.Identity) error {
	if err := t.checkNode(who); err != nil {
		return err
	}
	return t.member(who)
}

// checkRaft lets in the nodes of the table and, while this node follows none of them, any
// other that has not been shut out: who leads now may have joined while this node was
// away, and the table comes from the leader.
func (t *trust) checkRaft(who pki.Identity) error {
	err := t.checkMember(who)
	if errors.Is(err, api.ErrForbidden) && !t.settled() {
		return nil
	}
	return err
}

// settled says whether this node leads, or hears from a leader that its table has.
func (t *trust) settled() bool {
	f := t.leader.Load()
	if f == nil {
		return false
	}
	id := (*f)()
	n, ok := t.table().Node(id)
	c := t.live.Get()
	return ok && c != nil && (id == t.id || t.conns.Up(pki.Identity{Cluster: c.Cluster, Node: id, Key: n.Key}))
}

// dial connects to a node of the table; expected is its ID, or empty for whichever.
func (t *trust) dial(ctx context.Context, addr, expected string) (net.Conn, error) {
	return t.conns.Dial(ctx, addr, t.live.Client(expected, t.checkMember))
}

// dialRaft connects to a node that Raft's configuration has. The table may be behind that:
// a new leader has to reach the others before it knows that they are in it.
func (t *trust) dialRaft(ctx context.Context, addr, expected string) (net.Conn, error) {
	return t.conns.Dial(ctx, addr, t.live.Client(expected, t.checkNode))
}

// sign makes a certificate with the CA that signs. A person's is of the newest CA: nobody
// makes it anew, and one of the old CA would end with the exchange that is under way.
func (t *trust) sign(v *fsm.State, who pki.Identity, public any, life time.Duration) (*x509.Certificate, error) {
	signer := v.Trust.Signer
	if n := len(v.Trust.Authorities); who.Person != "" && n > 0 {
		signer = v.Trust.Authorities[n-1].Digest
	}
	a, ok := v.Trust.Authority(signer)
	if !ok {
		return nil, errors.New("this node does not know the cluster's CA yet; try again when it has caught up")
	}
	ca, err := t.authority(a)
	if err != nil {
		return nil, err
	}
	return ca.Sign(who, public, time.Now(), life)
}

func (t *trust) authority(a fsm.Authority) (*pki.CA, error) {
	cert, err := x509.ParseCertificate(a.Cert)
	if err != nil {
		return nil, fmt.Errorf("CA in the table: %w", err)
	}
	key, err := pki.Open(t.clusterKey(), caPurpose(a.Digest), a.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: is %s that of this cluster? copy it from another node, mode 0600, and start orchd again", err, clusterKeyFile)
	}
	return pki.OpenCA(cert, key)
}

// What sealed values are for; each opens for nothing else.
func caPurpose(digest string) string    { return "ca " + digest }
func tokenPurpose(digest string) string { return "token " + digest }
func gossipPurpose(id string) string    { return "gossip " + id }

// authorities are the CAs of the table.
func authorities(v *fsm.State) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, a := range v.Trust.Authorities {
		c, err := x509.ParseCertificate(a.Cert)
		if err != nil {
			return nil, fmt.Errorf("CA in the table: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// openGossip opens the gossip keys of the table.
func (t *trust) openGossip(v *fsm.State) ([][]byte, error) {
	var keys [][]byte
	for _, k := range v.Trust.Gossip {
		key, err := pki.Open(t.clusterKey(), gossipPurpose(k.ID), k.Key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// follow keeps the keys in step with the table and renews the certificate, and cuts off
// whoever the table shuts out. setGossip is told of new gossip keys.
func (t *trust) follow(ctx context.Context, changes func() (<-chan struct{}, func()), setGossip func([][]byte) error) error {
	poke, end := changes()
	defer end()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		before := t.live.Get()
		t.cut()
		t.keepUp(time.Now(), setGossip)
		if t.live.Get() != before { // a CA may have gone
			t.cut()
		}
		due.Reset(t.wait(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-due.C:
		}
	}
}

// cut closes the connections of those who would not be let in now.
func (t *trust) cut() {
	for _, who := range t.conns.Recheck(t.check) {
		t.log.Info("connections cut: the table shuts them out, or their certificate has ended or is of a CA that is gone", "peer", who.String())
	}
}

const (
	// lookAgain is the longest time between two looks at certificates that may have
	// ended; a change of the table is looked at at once.
	lookAgain = time.Hour
	// tryAgain is the time until what failed is tried again.
	tryAgain = 5 * time.Second
)

func (t *trust) wait(now time.Time) time.Duration {
	c := t.live.Get()
	if c == nil {
		return lookAgain
	}
	wait := min(pki.Next(c.Cert, t.chance, now), lookAgain)
	if _, _, trouble := t.state(); trouble != nil {
		wait = min(wait, tryAgain)
	}
	return max(wait, time.Second)
}

// keepUp follows the table once.
func (t *trust) keepUp(now time.Time, setGossip func([][]byte) error) {
	v := t.table()
	if t.live.Get() == nil || len(v.Trust.Authorities) == 0 {
		return
	}
	err := t.keepCertificate(v, now)
	if err == nil {
		err = t.keepGossip(v, setGossip)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.followed = v.Trust.Index
	}
	switch {
	case err != nil && t.trouble == nil:
		t.since = now
		t.log.Error("keys of this node are not up to date", "reason", err)
	case err == nil && t.trouble != nil:
		t.log.Info("keys of this node are up to date again")
	}
	t.trouble = err
}

// keepCertificate has this node trust the CAs of the table and show a certificate of the
// one that signs, made anew after two thirds of its life.
func (t *trust) keepCertificate(v *fsm.State, now time.Time) error {
	c := t.live.Get()
	cas, err := authorities(v)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(cas, c.CAs, (*x509.Certificate).Equal)
	ours := c.Issuer() == v.Trust.Signer && !pki.Due(c.Cert, t.chance, now)
	if same && ours && !t.unsaved {
		return nil
	}
	next := pki.Credentials{Cluster: c.Cluster, Key: c.Key, Cert: c.Cert, CAs: cas}
	if self, ok := v.Node(t.id); !ours && ok && self.Status != fsm.NodeLeft {
		if next.Cert, err = t.sign(v, pki.Identity{Cluster: c.Cluster, Node: t.id}, c.Key.Public(), pki.LifeNode); err != nil {
			return fmt.Errorf("renew the certificate: %w", err)
		}
	}
	done, err := next.Complete()
	if err != nil {
		return err
	}
	t.live.Set(done) // first: a CA that is gone is so with a full disk too
	if !ours {
		t.log.Info("certificate renewed", "until", done.Cert.NotAfter)
	}
	err = t.folder.saveCredentials(done)
	t.unsaved = err != nil
	return err
}

func (t *trust) keepGossip(v *fsm.State, setGossip func([][]byte) error) error {
	keys, err := t.openGossip(v)
	if err != nil || len(keys) == 0 || slices.EqualFunc(keys, t.gossipKeys(), slices.Equal[[]byte]) {
		return err
	}
	if err := t.folder.saveGossipKeys(keys); err != nil {
		return err
	}
	if err := setGossip(keys); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gossip = keys
	return nil
}

// state says how far this node follows, and what hinders it.
func (t *trust) state() (followed uint64, since time.Time, trouble error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.followed, t.since, t.trouble
}
