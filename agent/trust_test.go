package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// realm is a cluster's table with keys, and the key that opens them.
type realm struct {
	t     *testing.T
	store *fsm.Store
	key   []byte
	index uint64
	ahead int64 // of the clock, ms
}

func newRealm(t *testing.T) *realm {
	r := &realm{t: t, store: fsm.NewStore(), key: pki.NewSealKey()}
	c, err := newCluster(r.key, time.Now().UnixMilli(), "root on n1")
	if err != nil {
		t.Fatal(err)
	}
	r.do(c)
	return r
}

func (r *realm) do(c fsm.Command) {
	r.t.Helper()
	if err := r.try(c); err != nil {
		r.t.Fatalf("%T: %v", c, err)
	}
}

func (r *realm) try(c fsm.Command) error {
	r.t.Helper()
	r.index++
	data, err := fsm.Encode(time.Now().UnixMilli()+r.ahead, c)
	if err != nil {
		r.t.Fatal(err)
	}
	err, _ = r.store.Apply(r.index, 1, data).(error)
	return err
}

// node admits a node and gives it its keys.
func (r *realm) node(id string) *trust {
	r.t.Helper()
	f := open(r.t, r.t.TempDir()+"/"+id)
	r.t.Cleanup(func() { f.Close() })
	t := newTrust(id, f, r.store.View, slog.New(slog.DiscardHandler))
	t.chance = 0
	t.cluster = r.key
	key, err := f.nodeKey()
	if err != nil {
		r.t.Fatal(err)
	}
	ip := "10.0.0." + id[1:]
	r.do(fsm.PutNode{Node: fsm.Node{ID: id, Addr: ip, RaftAddr: ip + ":1", APIAddr: ip + ":2", Key: digestOf(r.t, key)}})
	v := r.store.View()
	cert, err := t.sign(v, pki.Identity{Cluster: v.ClusterID, Node: id}, key.Public(), pki.LifeNode)
	if err != nil {
		r.t.Fatal(err)
	}
	cas, err := authorities(v)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := pki.Credentials{Cluster: v.ClusterID, Key: key, Cert: cert, CAs: cas}.Complete()
	if err != nil {
		r.t.Fatal(err)
	}
	gossip, err := t.openGossip(v)
	if err != nil {
		r.t.Fatal(err)
	}
	t.use(c, r.key, gossip)
	return t
}

func digestOf(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	d, err := pki.KeyDigest(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestWhoIsLetIn by the table of this moment, whose certificate is in order.
func TestWhoIsLetIn(t *testing.T) {
	r := newRealm(t)
	n1 := r.node("n1")
	r.node("n2")
	r.node("n3")
	r.node("n4")
	r.node("n5")
	r.node("n6")
	v := r.store.View()
	key := func(id string) string { n, _ := v.Node(id); return n.Key }
	seen := func(id string) uint64 { n, _ := r.store.View().Node(id); return n.Index }
	k2, k3, k4, k5, k6 := key("n2"), key("n3"), key("n4"), key("n5"), key("n6")
	r.do(fsm.SetNodeStatus{ID: "n3", Seen: seen("n3"), Status: fsm.NodeLeft})
	r.do(fsm.SetNodeStatus{ID: "n4", Seen: seen("n4"), Status: fsm.NodeLeft, Revoke: true})
	r.do(fsm.RemoveNode{ID: "n4"})
	r.do(fsm.SetNodeStatus{ID: "n5", Seen: seen("n5"), Status: fsm.NodeLeft, Revoke: true})
	r.do(fsm.SetNodeStatus{ID: "n6", Seen: seen("n6"), Status: fsm.NodeDraining})
	r.do(fsm.SetNodeStatus{ID: "n6", Seen: seen("n6"), Status: fsm.NodeLeft})
	r.do(fsm.Grant{Person: fsm.Person{Name: "bob", Role: fsm.RoleRead, Key: "kb"}})
	for name, c := range map[string]struct {
		who  pki.Identity
		want error // nil: let in
		api  error // as one who asks for something
	}{
		"a node":                         {pki.Identity{Node: "n2", Key: k2}, nil, nil},
		"one that this table has not":    {pki.Identity{Node: "n9", Key: "k9"}, nil, api.ErrForbidden},
		"one with another key":           {pki.Identity{Node: "n2", Key: "k9"}, nil, api.ErrForbidden},
		"one that has left":              {pki.Identity{Node: "n3", Key: k3}, api.ErrLeft, api.ErrLeft},
		"one that was told to leave":     {pki.Identity{Node: "n6", Key: k6}, api.ErrRemoved, api.ErrRemoved},
		"one that joined anew after":     {pki.Identity{Node: "n3", Key: "k9"}, nil, api.ErrForbidden},
		"one that was removed":           {pki.Identity{Node: "n4", Key: k4}, api.ErrRemoved, api.ErrRemoved},
		"one whose containers go yet":    {pki.Identity{Node: "n5", Key: k5}, api.ErrRemoved, api.ErrRemoved},
		"the same by another name":       {pki.Identity{Node: "n7", Key: k4}, api.ErrRemoved, api.ErrRemoved},
		"a person":                       {pki.Identity{Person: "bob", Key: "kb"}, nil, nil},
		"with the bundle before":         {pki.Identity{Person: "bob", Key: "ka"}, api.ErrRemoved, api.ErrRemoved},
		"a person that nobody has named": {pki.Identity{Person: "eve", Key: "ke"}, api.ErrRemoved, api.ErrRemoved},
	} {
		if err := n1.check(c.who); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := n1.checkMember(c.who); c.who.Node != "" && (!errors.Is(err, c.api) || c.api == nil && err != nil) {
			t.Errorf("%s: %v, want %v", name, err, c.api)
		}
	}
	// The key of one that has left and has joined anew.
	r.do(fsm.PutNode{Node: fsm.Node{ID: "n3", Addr: "10.0.0.3", RaftAddr: "10.0.0.3:1", APIAddr: "10.0.0.3:2", Key: "k9"}})
	if err := n1.check(pki.Identity{Node: "n3", Key: k3}); !errors.Is(err, api.ErrLeft) {
		t.Errorf("with the key before: %v", err)
	}
	if err := n1.checkMember(pki.Identity{Node: "n3", Key: "k9"}); err != nil {
		t.Error(err)
	}
	if err := n1.checkNode(pki.Identity{Person: "bob", Key: "kb"}); err == nil {
		t.Error("a person may speak Raft")
	}
}

// shake has two nodes speak to each other over a pipe.
func shake(a, b *trust) error {
	left, right := net.Pipe()
	defer left.Close()
	defer right.Close()
	ended := make(chan error, 1)
	go func() {
		s := tls.Server(right, b.live.Server(false, b.checkNode))
		_, err := s.Write([]byte("x")) // with TLS 1.3 the client's certificate is read here
		ended <- err
	}()
	c := tls.Client(left, a.live.Client(b.id, a.checkNode))
	_, err := c.Read(make([]byte, 1))
	left.Close()
	return errors.Join(err, <-ended)
}

// TestThreeYears without a restart: certificates renew themselves, the gossip key and,
// once a year, the CA are exchanged, and on no day do two nodes fail to speak to each
// other.
func TestThreeYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(t)
		nodes := []*trust{r.node("n1"), r.node("n2"), r.node("n3")}
		ctx, cancel := context.WithCancel(context.Background())
		defer synctest.Wait()
		defer cancel()
		for _, n := range nodes {
			go n.follow(ctx, r.store.Subscribe, func([][]byte) error { return nil })
		}
		certs, cas, gossip := map[string]bool{}, map[string]bool{}, map[string]bool{}
		for day := range 3 * 365 {
			if day%365 == 200 {
				a, err := newAuthority(r.store.View().ClusterID, r.key)
				if err != nil {
					t.Fatal(err)
				}
				r.do(fsm.AddAuthority{Seen: r.store.View().Trust.Index, Authority: a})
			}
			for range 8 { // the leader, once a second
				time.Sleep(time.Second)
				synctest.Wait()
				x := exchange{now: time.Now().UnixMilli(), followed: map[string]uint64{}, fresh: func() (fsm.GossipKey, error) { return newGossipKey(r.key) }}
				for _, n := range nodes {
					x.followed[n.id], _, _ = n.state()
				}
				c, _, err := x.plan(r.store.View())
				if err != nil {
					t.Fatal(err)
				}
				if c != nil {
					r.do(c)
				}
				if err := shake(nodes[day%3], nodes[(day+1)%3]); err != nil {
					t.Fatalf("day %d: %v", day, err)
				}
				if c == nil {
					break
				}
			}
			for _, n := range nodes {
				if _, _, trouble := n.state(); trouble != nil {
					t.Fatalf("day %d: %s: %v", day, n.id, trouble)
				}
			}
			c := nodes[0].live.Get()
			certs[c.Cert.SerialNumber.String()], cas[c.Issuer()] = true, true
			gossip[r.store.View().Trust.Gossip[0].ID] = true
			time.Sleep(24 * time.Hour)
		}
		if len(certs) < 18 || len(certs) > 24 || len(cas) != 4 || len(gossip) < 30 || len(gossip) > 38 {
			t.Errorf("%d certificates, %d CAs, %d gossip keys in three years", len(certs), len(cas), len(gossip))
		}
		v := r.store.View()
		if len(v.Trust.Authorities) != 1 || len(v.Trust.Gossip) != 1 {
			t.Errorf("left over: %d CAs, %d gossip keys", len(v.Trust.Authorities), len(v.Trust.Gossip))
		}
		again, err := nodes[0].folder.credentials(v.ClusterID) // what a restart would find
		if err != nil || !again.Cert.Equal(nodes[0].live.Get().Cert) || again.Issuer() != v.Trust.Signer {
			t.Errorf("on disk: %v", err)
		}
		keys, err := nodes[0].folder.gossipKeys()
		if err != nil || len(keys) != 1 || !bytes.Equal(keys[0], nodes[0].gossipKeys()[0]) {
			t.Errorf("gossip keys on disk: %d, %v", len(keys), err)
		}
	})
}

// TestExchangeWaits for every node that has not left, whatever gossip thinks of it.
func TestExchangeWaits(t *testing.T) {
	r := newRealm(t)
	r.node("n1")
	r.node("n2")
	x := exchange{now: time.Now().UnixMilli(), followed: map[string]uint64{}, fresh: func() (fsm.GossipKey, error) { return newGossipKey(r.key) }}
	plan := func() (fsm.Command, string) {
		t.Helper()
		c, waits, err := x.plan(r.store.View())
		if err != nil {
			t.Fatal(err)
		}
		return c, waits
	}
	all := func() {
		for _, n := range r.store.View().Nodes {
			x.followed[n.ID] = r.store.View().Trust.Index
		}
	}
	if c, waits := plan(); c != nil || waits != "" {
		t.Errorf("at rest: %+v, %q", c, waits)
	}
	a, err := newAuthority(r.store.View().ClusterID, r.key)
	if err != nil {
		t.Fatal(err)
	}
	old := r.store.View().Trust.Signer
	r.do(fsm.AddAuthority{Seen: r.store.View().Trust.Index, Authority: a})
	n2, _ := r.store.View().Node("n2")
	r.do(fsm.SetNodeStatus{ID: "n2", Seen: n2.Index, Status: fsm.NodeDead})
	x.followed["n1"] = r.store.View().Trust.Index
	if c, waits := plan(); c != nil || !strings.Contains(waits, "node n2 (dead)") || !strings.Contains(waits, "orchctl remove") {
		t.Errorf("n2 is behind: %+v, %q", c, waits)
	}
	all()
	for _, want := range []fsm.Command{fsm.SetSigner{Digest: a.Digest}, fsm.DropAuthority{Digest: old}} {
		c, waits := plan()
		if c == nil || c.Kind() != want.Kind() {
			t.Fatalf("%+v, %q, want %T", c, waits, want)
		}
		r.do(c)
		if c, _ := plan(); c != nil && c.Kind() != fsm.KindSetGossipKeys {
			t.Errorf("it goes on before all follow: %+v", c)
		}
		all()
	}
	if c, _ := plan(); c != nil {
		t.Errorf("it does not end: %+v", c)
	}
}

// TestKeepsItsKeys where it can not follow, and says so.
func TestKeepsItsKeys(t *testing.T) {
	r := newRealm(t)
	n := r.node("n1")
	fails := func([][]byte) error { return nil }
	n.keepUp(time.Now(), fails)
	if _, _, trouble := n.state(); trouble != nil {
		t.Fatal(trouble)
	}
	before := n.live.Get()
	a, err := newAuthority(r.store.View().ClusterID, pki.NewSealKey()) // of another cluster key
	if err != nil {
		t.Fatal(err)
	}
	r.do(fsm.AddAuthority{Seen: r.store.View().Trust.Index, Authority: a})
	n.keepUp(time.Now(), fails)
	r.do(fsm.SetSigner{Seen: r.store.View().Trust.Index, Digest: a.Digest})
	n.keepUp(time.Now(), fails)
	followed, _, trouble := n.state()
	if trouble == nil || !strings.Contains(trouble.Error(), "cluster.key") || followed == r.store.View().Trust.Index || n.live.Get().Issuer() != before.Issuer() {
		t.Errorf("followed %d, %v", followed, trouble)
	}
	registry := prometheus.NewRegistry()
	if _, err := n.measure(registry); err != nil || gauges(t, registry)["orch_trust_behind"] != 1 {
		t.Errorf("metrics: %v, %v", gauges(t, registry), err)
	}
	if err := shake(n, n); err != nil {
		t.Errorf("it does not go on with what it has: %v", err)
	}
}

// TestLiveConnectionsAreCut when the table shuts their owner out, a node's and a
// person's, and nobody else's.
func TestLiveConnectionsAreCut(t *testing.T) {
	r := newRealm(t)
	n1, n2, n3 := r.node("n1"), r.node("n2"), r.node("n3")
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r.do(fsm.Grant{Person: fsm.Person{Name: "bob", Role: fsm.RoleRead, Key: digestOf(t, key)}})
	v := r.store.View()
	cert, err := n1.sign(v, pki.Identity{Cluster: v.ClusterID, Person: "bob"}, key.Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	bob := newTrust("bob", n2.folder, func() *fsm.State { return &fsm.State{} }, n1.log)
	bob.known = n1.known
	creds, err := pki.Credentials{Cluster: v.ClusterID, Key: key, Cert: cert, CAs: n1.live.Get().CAs}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	bob.live.Set(creds)

	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := pki.Listen(raw, n1.live.Server(false, n1.check), n1.conns, nil)
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() { followed <- n1.follow(ctx, r.store.Subscribe, func([][]byte) error { return nil }) }()
	defer func() {
		cancel()
		if err := <-followed; err != nil {
			t.Error(err)
		}
	}()
	dial := func(from *trust) net.Conn {
		t.Helper()
		c, err := from.dial(t.Context(), raw.Addr().String(), "n1")
		if err != nil {
			t.Fatal(err)
		}
		other, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); other.Close() })
		return c
	}
	removed, person, stays := dial(n2), dial(bob), dial(n3)
	r.do(fsm.RemoveNode{ID: "n2"})
	r.do(fsm.Revoke{Name: "bob"})
	for name, c := range map[string]net.Conn{"the removed node": removed, "the person": person} {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s is still connected: %v", name, err)
		}
	}
	stays.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := stays.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("n3 was cut off too: %v", err)
	}
	if c, err := n2.dial(t.Context(), raw.Addr().String(), "n1"); err == nil {
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the removed node is let in again: %v", err)
		}
		c.Close()
	}
	// One that answers where another is expected is not spoken to.
	if c, err := n3.dial(t.Context(), raw.Addr().String(), "n2"); !errors.Is(err, pki.ErrUntrusted) {
		t.Errorf("n1 in the place of n2: %v", err)
		if c != nil {
			c.Close()
		}
	}
}
