package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// served is a listener that echoes, with its node's credentials.
type served struct {
	*Listener
	live  *Live
	conns *Conns
	gone  atomic.Pointer[string] // a peer that is refused
}

func (s *served) check(id Identity) error {
	if g := s.gone.Load(); g != nil && *g == id.Node+id.Person {
		return errors.New("it was removed")
	}
	return nil
}

func serve(t *testing.T, c *Credentials, strangers bool) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{live: &Live{}, conns: NewConns()}
	s.live.Set(c)
	s.Listener = Listen(l, s.live.Server(strangers, s.check), s.conns, nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := s.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go io.Copy(conn, conn)
		}
	}()
	t.Cleanup(func() { s.Close(); <-ended })
	return s
}

// says sends a word to s and returns the error of what comes back.
func (s *served) says(t *testing.T, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := NewConns().Dial(ctx, s.Addr().String(), config)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	return conn, echo(conn)
}

func echo(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	word, back := []byte("word"), make([]byte, 4)
	if _, err := conn.Write(word); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, back); err != nil || !bytes.Equal(word, back) {
		return errors.Join(err, errors.New("no echo"))
	}
	return nil
}

func client(c *Credentials, node string) *tls.Config {
	l := &Live{}
	l.Set(c)
	return l.Client(node, nil)
}

func TestWhoGetsIn(t *testing.T) {
	now := time.Now()
	ca, foreign := newCA(t, cluster), newCA(t, cluster)
	n1 := issued(t, ca, Identity{Cluster: cluster, Node: "n1"}, now)
	n2 := issued(t, ca, Identity{Cluster: cluster, Node: "n2"}, now)
	s := serve(t, n1, false)
	other := strings.Repeat("ab", 16)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	joiner, err := Joining(key, Token{}.CA, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	joiner.VerifyConnection = nil
	plain := base()
	old := client(n2, "")
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for _, c := range []struct {
		name   string
		config *tls.Config
		in     bool
	}{
		{"a node", client(n2, "n1"), true},
		{"a node to whichever", client(n2, ""), true},
		{"a person", client(issued(t, ca, Identity{Cluster: cluster, Person: "ada"}, now), ""), true},
		{"a node to another", client(n2, "n3"), false},
		{"an expired certificate", client(issued(t, ca, Identity{Cluster: cluster, Node: "n2"}, now.Add(-2*LifeNode)), "n1"), false},
		{"one that is not valid yet", client(issued(t, ca, Identity{Cluster: cluster, Node: "n2"}, now.Add(time.Hour)), "n1"), false},
		{"another CA of the same name", client(issued(t, foreign, Identity{Cluster: cluster, Node: "n2"}, now, ca), "n1"), false},
		{"another cluster of the same CA", client(issued(t, ca, Identity{Cluster: other, Node: "n2"}, now), "n1"), false},
		{"a joiner where none is expected", joiner, false},
		{"no certificate", plain, false},
		{"TLS 1.2", old, false},
	} {
		if _, err := s.says(t, c.config); (err == nil) != c.in {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	person := serve(t, issued(t, ca, Identity{Cluster: cluster, Person: "ada"}, now), false)
	if _, err := person.says(t, client(n2, "")); err == nil {
		t.Error("a person's certificate passed for a node's")
	}
	empty := serve(t, nil, false)
	if _, err := empty.says(t, client(n2, "")); err == nil {
		t.Error("a node without a certificate answered")
	}
}

// TestRemovedIsCutOff at once, on both ends, and does not come back.
func TestRemovedIsCutOff(t *testing.T) {
	ca := newCA(t, cluster)
	s := serve(t, issued(t, ca, Identity{Cluster: cluster, Node: "n1"}, time.Now()), false)
	n2 := client(issued(t, ca, Identity{Cluster: cluster, Node: "n2"}, time.Now()), "n1")
	n3 := client(issued(t, ca, Identity{Cluster: cluster, Node: "n3"}, time.Now()), "n1")
	bad, err := s.says(t, n2)
	if err != nil {
		t.Fatal(err)
	}
	good, err := s.says(t, n3)
	if err != nil {
		t.Fatal(err)
	}
	name := "n2"
	s.gone.Store(&name)
	if who := s.conns.Recheck(s.check); len(who) != 1 || who[0].Node != "n2" {
		t.Errorf("cut off: %v", who)
	}
	if err := echo(bad); err == nil {
		t.Error("its connection goes on")
	}
	if err := echo(good); err != nil {
		t.Errorf("another's was cut: %v", err)
	}
	if _, err := s.says(t, n2); err == nil {
		t.Error("it came back")
	}
	// Certificates end at whole seconds: this one lives two to three.
	short := issued(t, ca, Identity{Cluster: cluster, Node: "n4"}, time.Now())
	if short.Cert, err = ca.Sign(Identity{Cluster: cluster, Node: "n4"}, short.Key.Public(), time.Now(), 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if short, err = short.Complete(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.says(t, client(short, "n1")); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-tick.C {
		who := s.conns.Recheck(s.check)
		if len(who) == 1 && who[0].Node == "n4" {
			break
		}
		if len(who) > 0 || time.Now().After(deadline) {
			t.Fatalf("after the end of its certificate: %v", who)
		}
	}
}

// TestDroppedCACutsItsConnections: those that were made under it, at either end, and no
// request of theirs counts from the moment at which it is dropped.
func TestDroppedCACutsItsConnections(t *testing.T) {
	old, next := newCA(t, cluster), newCA(t, cluster)
	who := func(node string) Identity { return Identity{Cluster: cluster, Node: node} }
	s := serve(t, issued(t, next, who("n1"), time.Now(), old), false)
	intruder, err := s.says(t, client(issued(t, old, who("n99"), time.Now(), next), "n1")) // of a key of the CA that leaked
	if err != nil {
		t.Fatal(err)
	}
	honest, err := s.says(t, client(issued(t, next, who("n2"), time.Now(), old), "n1"))
	if err != nil {
		t.Fatal(err)
	}
	// What the listener saw of the two.
	seen := map[string]*tls.ConnectionState{}
	s.conns.mu.Lock()
	up := len(s.conns.up)
	s.conns.mu.Unlock()
	for node, ca := range map[string]*CA{"n99": old, "n2": next} {
		seen[node] = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: []*x509.Certificate{issued(t, ca, who(node), time.Now()).Cert}}
		if err := s.live.Again(seen[node]); err != nil {
			t.Errorf("%s while both CAs are trusted: %v", node, err)
		}
	}
	if who := s.conns.Recheck(s.check); len(who) != 0 || up != 2 {
		t.Errorf("cut off while both CAs are trusted: %v, %d up", who, up)
	}
	s.live.Set(issued(t, next, who("n1"), time.Now()))
	if err := s.live.Again(seen["n99"]); !errors.Is(err, ErrUntrusted) {
		t.Errorf("a request of the old CA: %v", err)
	}
	if err := s.live.Again(seen["n2"]); err != nil {
		t.Error(err)
	}
	if who := s.conns.Recheck(s.check); len(who) != 1 || who[0].Node != "n99" {
		t.Errorf("cut off: %v", who)
	}
	if err := echo(intruder); err == nil {
		t.Error("its connection goes on")
	}
	if err := echo(honest); err != nil {
		t.Errorf("a connection of the new CA was cut: %v", err)
	}
}

// TestRenewedWithoutRestart: both ends take new credentials while the listener runs,
// first with both CAs, then with the new one alone.
func TestRenewedWithoutRestart(t *testing.T) {
	old, next := newCA(t, cluster), newCA(t, cluster)
	who := func(node string) Identity { return Identity{Cluster: cluster, Node: node} }
	s := serve(t, issued(t, old, who("n1"), time.Now()), false)
	peer := &Live{}
	peer.Set(issued(t, old, who("n2"), time.Now()))
	both := func(what string) {
		t.Helper()
		if _, err := s.says(t, peer.Client("n1", nil)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	both("the old CA")
	s.live.Set(issued(t, old, who("n1"), time.Now(), next))
	peer.Set(issued(t, old, who("n2"), time.Now(), next))
	both("both trusted")
	s.live.Set(issued(t, next, who("n1"), time.Now(), old))
	both("one signed by the new")
	peer.Set(issued(t, next, who("n2"), time.Now(), old))
	both("both signed by the new")
	s.live.Set(issued(t, next, who("n1"), time.Now()))
	peer.Set(issued(t, next, who("n2"), time.Now()))
	both("the new alone")
	peer.Set(issued(t, old, who("n2"), time.Now(), next))
	if _, err := s.says(t, peer.Client("n1", nil)); err == nil {
		t.Error("the old CA still lets in")
	}
}

// TestJoinerKnowsTheCluster by its token, before it sends a byte.
func TestJoinerKnowsTheCluster(t *testing.T) {
	ca, foreign := newCA(t, cluster), newCA(t, cluster)
	s := serve(t, issued(t, ca, Identity{Cluster: cluster, Node: "n1"}, time.Now(), foreign), true)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	join := func(ca *CA, now func() time.Time) error {
		k, err := NewToken(Digest(ca.Cert))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Joining(key, k.CA, now)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.says(t, c)
		return err
	}
	if err := join(ca, time.Now); err != nil {
		t.Errorf("the right token: %v", err)
	}
	if err := join(foreign, time.Now); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "orchctl token show") {
		t.Errorf("a token of another cluster: %v", err)
	}
	late := func() time.Time { return time.Now().Add(-24 * time.Hour) }
	if err := join(ca, late); !errors.Is(err, ErrUntrusted) || !strings.Contains(err.Error(), "set the clock") {
		t.Errorf("a clock a day behind: %v", err)
	}
	impostor := serve(t, issued(t, ca, Identity{Cluster: cluster, Person: "eve"}, time.Now()), true)
	k, err := NewToken(Digest(ca.Cert))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Joining(key, k.CA, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := impostor.says(t, c); err == nil {
		t.Error("a person passed for a node")
	}
}

// TestHandshakesAreBounded: peers that connect and say nothing, or nonsense, or half a
// handshake, keep nobody out and are let go.
func TestHandshakesAreBounded(t *testing.T) {
	ca := newCA(t, cluster)
	s := serve(t, issued(t, ca, Identity{Cluster: cluster, Node: "n1"}, time.Now()), false)
	for i := range 4 * MaxHandshakes {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		switch i % 4 {
		case 1:
			c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		case 2:
			c.Write([]byte{22, 3, 1, 0xff, 0xff, 1, 0})
		case 3:
			c.Write(bytes.Repeat([]byte{byte(i)}, 100))
		}
	}
	if _, err := s.says(t, client(issued(t, ca, Identity{Cluster: cluster, Node: "n2"}, time.Now()), "n1")); err != nil {
		t.Errorf("an honest node among them: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) > MaxHandshakes {
		t.Errorf("%d handshakes at once", len(s.pending))
	}
}
