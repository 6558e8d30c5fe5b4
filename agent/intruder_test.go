package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"orch/agent/api"
	"orch/agent/pki"
	"orch/fsm"
)

// forged are the keys of a node that there is not, made with the CA's key.
func (r *realm) forged(id string) *trust {
	r.t.Helper()
	v := r.store.View()
	key, err := pki.NewKey()
	if err != nil {
		r.t.Fatal(err)
	}
	out := newTrust(id, nil, func() *fsm.State { return &fsm.State{} }, nil)
	out.cluster = r.key
	cert, err := out.sign(v, pki.Identity{Cluster: v.ClusterID, Node: id}, key.Public(), pki.LifeNode)
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
	out.live.Set(c)
	return out
}

// door is a listener of a node that follows its table.
func (r *realm) door(n *trust, check pki.Check) *pki.Listener {
	r.t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	l := pki.Listen(raw, n.live.Server(false, check), n.conns, nil)
	ctx, cancel := context.WithCancel(context.Background())
	followed, taken := make(chan error, 1), make(chan struct{})
	go func() { followed <- n.follow(ctx, r.store.Subscribe, func([][]byte) error { return nil }) }()
	go func() {
		defer close(taken)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("x")) // it is let in
			r.t.Cleanup(func() { c.Close() })
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		l.Close()
		<-taken
		if err := <-followed; err != nil {
			r.t.Error(err)
		}
	})
	return l
}

// enters says whether one is let in at a door, and its connection.
func enters(t *testing.T, from *trust, l *pki.Listener) (net.Conn, bool) {
	t.Helper()
	c, err := from.conns.Dial(t.Context(), l.Addr().String(), from.live.Client("", nil))
	if err != nil {
		return nil, false
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return c, err == nil
}

// isCut waits until a connection ends.
func isCut(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("still connected: %v", err)
	}
}

// TestNewcomersSpeakRaftOnly, and only to a node that follows nobody of its table: it may
// have been away when they joined.
func TestNewcomersSpeakRaftOnly(t *testing.T) {
	r := newRealm(t)
	n1, n2 := r.node("n1"), r.node("n2")
	leads := ""
	leader := func() string { return leads }
	n1.leader.Store(&leader)
	l := r.door(n1, n1.checkRaft)
	early, in := enters(t, r.forged("n99"), l)
	if !in {
		t.Fatal("a new leader does not reach a node that was away")
	}
	leads = "n2" // by Raft; it has not been heard of yet
	if _, in := enters(t, r.forged("n98"), l); !in {
		t.Error("another one with the leader's name could be the leader, with a new key")
	}
	if _, in := enters(t, n2, l); !in {
		t.Fatal("n2 is not let in")
	}
	r.do(fsm.Note{What: "poke"})
	isCut(t, early)
	for _, id := range []string{"n99", "n2"} {
		if _, in := enters(t, r.forged(id), l); in {
			t.Errorf("%s of another key is let in beside the leader", id)
		}
	}
	// At the API, it asks for nothing.
	n := &Node{trust: n1}
	for _, x := range []*trust{r.forged("n99"), r.forged("n2")} {
		who := n.identify(shown(x))
		if who.Node != "" || who.Role != "" || !errors.Is(who.Refused, api.ErrForbidden) {
			t.Errorf("%s: %+v", x.id, who)
		}
	}
	if who := n.identify(shown(n2)); who.Node != "n2" || who.Refused != nil {
		t.Errorf("%+v", who)
	}
}

// shown is a request over a connection of somebody's.
func shown(x *trust) *http.Request {
	return &http.Request{TLS: &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{x.live.Get().Cert}}}
}

// TestDroppedCAShutsOut who has got its key: what connected before goes, and each request
// is refused.
func TestDroppedCAShutsOut(t *testing.T) {
	r := newRealm(t)
	n1, n2 := r.node("n1"), r.node("n2")
	leader := func() string { return "" }
	n1.leader.Store(&leader)
	l := r.door(n1, n1.checkRaft)
	intruder := r.forged("n99")
	key := intruder.key()
	r.do(fsm.PutNode{Node: fsm.Node{ID: "n99", Addr: "10.0.0.99", RaftAddr: "10.0.0.99:1", APIAddr: "10.0.0.99:2", Key: key}}) // even so
	conn, in := enters(t, intruder, l)
	if !in {
		t.Fatal("it is not let in")
	}
	a, err := newAuthority(r.store.View().ClusterID, r.key)
	if err != nil {
		t.Fatal(err)
	}
	old := r.store.View().Trust.Signer
	r.do(fsm.AddAuthority{Seen: r.store.View().Trust.Index, Authority: a})
	r.do(fsm.SetSigner{Seen: r.store.View().Trust.Index, Digest: a.Digest})
	n2.keepUp(time.Now(), func([][]byte) error { return nil })
	honest, in := enters(t, n2, l)
	if !in {
		t.Fatal("n2 is not let in")
	}
	n := &Node{trust: n1}
	if who := n.identify(shown(intruder)); who.Node != "n99" {
		t.Errorf("before: %+v", who)
	}
	r.do(fsm.DropAuthority{Seen: r.store.View().Trust.Index, Digest: old})
	isCut(t, conn)
	if who := n.identify(shown(intruder)); who.Node != "" || !errors.Is(who.Refused, api.ErrForbidden) || !strings.Contains(who.Refused.Error(), "certificate") {
		t.Errorf("after: %+v", who)
	}
	if _, in := enters(t, intruder, l); in {
		t.Error("it is let in again")
	}
	honest.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := honest.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("n2 was cut off too: %v", err)
	}
}

// TestDroppedCAWithAFullDisk is trusted no more; the new keys are written when they can
// be, and until then the exchange waits for this node.
func TestDroppedCAWithAFullDisk(t *testing.T) {
	r := newRealm(t)
	n := r.node("n1")
	none := func([][]byte) error { return nil }
	n.keepUp(time.Now(), none)
	intruder := r.forged("n99")
	away := n.folder.dir + ".away"
	if err := os.Rename(n.folder.dir, away); err != nil {
		t.Fatal(err)
	}
	a, err := newAuthority(r.store.View().ClusterID, r.key)
	if err != nil {
		t.Fatal(err)
	}
	old := r.store.View().Trust.Signer
	for _, c := range []func(seen uint64) fsm.Command{
		func(seen uint64) fsm.Command { return fsm.AddAuthority{Seen: seen, Authority: a} },
		func(seen uint64) fsm.Command { return fsm.SetSigner{Seen: seen, Digest: a.Digest} },
		func(seen uint64) fsm.Command { return fsm.DropAuthority{Seen: seen, Digest: old} },
	} {
		r.do(c(r.store.View().Trust.Index))
		n.keepUp(time.Now(), none)
	}
	if err := n.live.Again(shown(intruder).TLS); err == nil {
		t.Error("the old CA is trusted")
	}
	if followed, _, trouble := n.state(); trouble == nil || followed == r.store.View().Trust.Index {
		t.Errorf("followed %d, %v", followed, trouble)
	}
	if err := os.Rename(away, n.folder.dir); err != nil {
		t.Fatal(err)
	}
	n.keepUp(time.Now(), none)
	kept, err := n.folder.credentials(r.store.View().ClusterID)
	if followed, _, trouble := n.state(); trouble != nil || followed != r.store.View().Trust.Index || err != nil || kept.Issuer() != a.Digest {
		t.Errorf("followed %d, %v; on disk: %v", followed, trouble, err)
	}
}
