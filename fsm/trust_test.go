package fsm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// trusted is a cluster of one node with a CA and a token for two uses.
func trusted(t testing.TB) *State {
	t.Helper()
	s := must(t, &State{Stamp: 1_000_000}, InitCluster{ClusterID: "c1", By: "root on n1",
		Authority: &Authority{Digest: "ca1", Cert: []byte{1}, Key: []byte{2}}, Gossip: &GossipKey{ID: "g1", Key: []byte{3}},
		Token: &JoinToken{Digest: "t1", Secret: []byte{4}, Expires: 2_000_000, Uses: 2}})
	return must(t, s, PutNode{Node: joiner("n1", "k1")})
}

func joiner(id, key string) Node {
	ip := "10.0.0." + id[1:]
	return Node{ID: id, Addr: ip, RaftAddr: ip + ":7481", APIAddr: ip + ":7480", Key: key}
}

func refuse(t *testing.T, s *State, c Command, want error, says string) {
	t.Helper()
	_, _, err := Apply(s, s.Applied+1, 1, s.Stamp, c)
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), says) {
		t.Errorf("%+v: %v; want %v with %q", c, err, want, says)
	}
}

// TestAdmit: a join costs one use however often it is repeated, and a name belongs to
// the key that it was given to.
func TestAdmit(t *testing.T) {
	s := trusted(t)
	if by := s.Events[0].By; by != "root on n1" {
		t.Errorf("the cluster was made by %q", by)
	}
	refuse(t, s, Admit{Node: joiner("n2", "k2"), Token: "other"}, ErrRefused, "token show")
	refuse(t, s, Admit{Node: joiner("n2", ""), Token: "t1"}, ErrOutOfRange, "no key")
	for range 3 {
		s = must(t, s, Admit{Node: joiner("n2", "k2"), Token: "t1"})
	}
	if s.Trust.Token.Uses != 1 {
		t.Errorf("%d uses are left", s.Trust.Token.Uses)
	}
	refuse(t, s, Admit{Node: joiner("n2", "k9"), Token: "t1"}, ErrExists, "orchctl remove n2")
	s = must(t, s, Admit{Node: joiner("n3", "k3"), Token: "t1"})
	refuse(t, s, Admit{Node: joiner("n4", "k4"), Token: "t1"}, ErrRefused, "used up")
	s = must(t, s, Admit{Node: joiner("n3", "k3"), Token: "t1"}) // cut off, and repeated
	s = must(t, s, PutToken{Token: JoinToken{Digest: "t2", Secret: []byte{5}, Expires: s.Stamp + 3500, Uses: 9}, By: "alice"})
	if e := last(s); e.Kind != "token-made" || e.By != "alice" {
		t.Errorf("%+v", e)
	}
	refuse(t, s, Admit{Node: joiner("n4", "k4"), Token: "t1"}, ErrRefused, "not the one")
	s = must(t, s, Admit{Node: joiner("n4", "k4"), Token: "t2"})
	s = must(t, s, PutToken{Token: JoinToken{Digest: "t2", Secret: []byte{5}, Expires: s.Stamp + 3500, Uses: 9}})
	if s.Trust.Token.Uses != 8 {
		t.Errorf("the same token again has %d uses", s.Trust.Token.Uses)
	}
	s = must(t, s, Note{What: "time goes by"})
	refuse(t, s, Admit{Node: joiner("n5", "k5"), Token: "t2"}, ErrRefused, "expired")
}

// TestRemovedKey: what was removed by hand stays out, and its name is free.
func TestRemovedKey(t *testing.T) {
	s := must(t, trusted(t), Admit{Node: joiner("n2", "k2"), Token: "t1"})
	n, _ := s.Node("n2")
	byHand := must(t, s, SetNodeStatus{ID: "n2", Seen: n.Index, Status: NodeLeft, Revoke: true, By: "alice"})
	gone := must(t, s, RemoveNode{ID: "n2", By: "alice"})
	for _, s := range []*State{byHand, gone} {
		if !s.Trust.IsRevoked("k2") || last(s).By != "alice" {
			t.Errorf("%+v, %+v", s.Trust.Revoked, last(s))
		}
		refuse(t, s, Admit{Node: joiner("n2", "k2"), Token: "t1"}, ErrRefused, "removed")
		s = must(t, s, Admit{Node: joiner("n2", "k9"), Token: "t1"})
		if n, _ := s.Node("n2"); n.Key != "k9" || n.Status != NodeAlive {
			t.Errorf("%+v", n)
		}
		old := joiner("n2", "k2")
		old.Version = "2"
		refuse(t, s, PutNode{Node: old}, ErrRefused, "shut out")
	}
}

// TestKeyOfOneThatLeft is shut out too, when it joins anew with another and when it is
// removed at last, and does not come back by a command that was long under way.
func TestKeyOfOneThatLeft(t *testing.T) {
	s := must(t, trusted(t), Admit{Node: joiner("n2", "k2"), Token: "t1"})
	n, _ := s.Node("n2")
	lost := must(t, s, SetNodeStatus{ID: "n2", Seen: n.Index, Status: NodeLeft})
	if r, ok := lost.Trust.Revocation("k2"); !ok || !r.Left || !r.Lost {
		t.Errorf("it was lost: %+v, %v", r, ok)
	}
	s = must(t, s, SetNodeStatus{ID: "n2", Seen: n.Index, Status: NodeDraining})
	s = must(t, s, SetNodeStatus{ID: "n2", Seen: s.Applied, Status: NodeLeft})
	if r, ok := s.Trust.Revocation("k2"); !ok || !r.Left || r.Lost || r.At() != s.Stamp {
		t.Errorf("it was told to leave: %+v, %v", r, ok)
	}
	died := must(t, must(t, lost, PutNode{Node: joiner("n3", "k3")}), SetNodeStatus{ID: "n3", Seen: lost.Applied + 1, Status: NodeDraining})
	for _, status := range []NodeStatus{NodeDead, NodeLeft} {
		died = must(t, died, SetNodeStatus{ID: "n3", Seen: died.Applied, Status: status})
	}
	if r, ok := died.Trust.Revocation("k3"); !ok || !r.Left || r.Lost {
		t.Errorf("it was told to leave, and died: %+v, %v", r, ok)
	}
	refuse(t, s, PutNode{Node: joiner("n2", "k2")}, ErrRefused, "shut out")
	refuse(t, s, PutNode{Node: joiner("n2", "")}, ErrRefused, "shut out")
	refuse(t, s, PutNode{Node: joiner("n9", "k2")}, ErrRefused, "shut out")
	refuse(t, s, Admit{Node: joiner("n2", "k2"), Token: "t1"}, ErrRefused, "has left")
	anew := must(t, s, Admit{Node: joiner("n2", "k9"), Token: "t1"})
	if !anew.Trust.IsRevoked("k2") || anew.Trust.IsRevoked("k9") {
		t.Errorf("%+v", anew.Trust.Revoked)
	}
	gone := must(t, s, RemoveNode{ID: "n2"})
	if r, ok := gone.Trust.Revocation("k2"); !ok || r.Left {
		t.Errorf("removed at last: %+v, %v", r, ok)
	}
	// A state in which one left and kept its key.
	kept := *s
	kept.Trust.Revoked = nil
	if s := must(t, &kept, PutNode{Node: joiner("n2", "k9")}); !s.Trust.IsRevoked("k2") {
		t.Error("a key that was replaced is good again")
	}
}

// TestRevokedForAsLongAsItsCA is trusted, whatever the time: a node that is cut off
// makes certificates for itself. What is left then is bounded.
func TestRevokedForAsLongAsItsCA(t *testing.T) {
	const day = 24 * 3600 * 1000
	s := must(t, trusted(t), Admit{Node: joiner("n2", "k2"), Token: "t1"})
	s = must(t, s, RemoveNode{ID: "n2"})
	at := func(days int64, c Command) {
		t.Helper()
		next, _, err := Apply(s, s.Applied+1, 1, s.Stamp+days*day, c)
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	at(101, RemoveNode{ID: "n1"})
	if !s.Trust.IsRevoked("k2") {
		t.Error("after 101 days the key is good again")
	}
	at(1, AddAuthority{Seen: s.Trust.Index, Authority: Authority{Digest: "ca2"}})
	at(0, PutNode{Node: joiner("n3", "k3")})
	at(1, RemoveNode{ID: "n3"}) // it could have a certificate of the new one
	at(1, SetSigner{Seen: s.Trust.Index, Digest: "ca2"})
	if len(s.Trust.Revoked) != 3 {
		t.Errorf("while both are trusted: %+v", s.Trust.Revoked)
	}
	at(1, DropAuthority{Seen: s.Trust.Index, Digest: "ca1"})
	if s.Trust.IsRevoked("k1") || s.Trust.IsRevoked("k2") || !s.Trust.IsRevoked("k3") {
		t.Errorf("when the old one is gone: %+v", s.Trust.Revoked)
	}
	for i := range MaxRevoked + 1 {
		id := fmt.Sprint("n", i+10)
		s = must(t, s, PutNode{Node: joiner(id, "key"+id)})
		if len(s.Trust.Revoked) < MaxRevoked {
			s = must(t, s, RemoveNode{ID: id})
			continue
		}
		refuse(t, s, RemoveNode{ID: id}, ErrOutOfRange, "orchctl ca rotate")
		break
	}
	if err := Check(s); err != nil || len(s.Trust.Revoked) != MaxRevoked {
		t.Errorf("%d, %v", len(s.Trust.Revoked), err)
	}
	old := Revocation{Key: "k", Until: revokedFor + 5}
	if old.At() != 5 {
		t.Errorf("%d", old.At())
	}
}

func TestGrants(t *testing.T) {
	s := trusted(t)
	s = must(t, s, Grant{Person{Name: "bob", Role: RoleRead, Key: "kb", By: "alice"}})
	since := s.Stamp
	s = must(t, s, Grant{Person{Name: "bob", Role: RoleRead, Key: "kb", By: "alice"}})
	if p, ok := s.Trust.Person("bob"); !ok || p.Since != since {
		t.Errorf("%+v", p)
	}
	s = must(t, s, Grant{Person{Name: "ann", Role: RoleAdmin, Key: "ka"}})
	refuse(t, s, Grant{Person{Name: "eve", Role: "root", Key: "ke"}}, ErrOutOfRange, "read, deploy or admin")
	s = must(t, s, Revoke{Name: "bob", By: "ann"})
	if _, ok := s.Trust.Person("bob"); ok || last(s).By != "ann" {
		t.Errorf("%+v", s.Trust.People)
	}
	refuse(t, s, Revoke{Name: "bob"}, ErrNoSuchPerson, "bob")
	for r, may := range map[Role][]bool{RoleRead: {true, false, false}, RoleDeploy: {true, true, false}, RoleAdmin: {true, true, true}, "": {false, false, false}, "x": {false, false, false}} {
		for i, least := range []Role{RoleRead, RoleDeploy, RoleAdmin} {
			if r.Includes(least) != may[i] {
				t.Errorf("%q includes %q: %v", r, least, !may[i])
			}
		}
	}
}

// TestAuthorities: a CA is trusted before it signs, and signs no more before it goes.
func TestAuthorities(t *testing.T) {
	s := trusted(t)
	refuse(t, s, DropAuthority{Seen: s.Trust.Index, Digest: "ca1"}, ErrOutOfRange, "signs")
	refuse(t, s, SetSigner{Seen: s.Trust.Index, Digest: "ca2"}, ErrOutOfRange, "trusted")
	s = must(t, s, AddAuthority{Seen: s.Trust.Index, Authority: Authority{Digest: "ca2"}, By: "alice"})
	refuse(t, s, AddAuthority{Seen: s.Trust.Index, Authority: Authority{Digest: "ca3"}}, ErrExists, "under way")
	refuse(t, s, SetSigner{Seen: s.Trust.Index - 1, Digest: "ca2"}, ErrStale, "")
	s = must(t, s, SetSigner{Seen: s.Trust.Index, Digest: "ca2"})
	s = must(t, s, DropAuthority{Seen: s.Trust.Index, Digest: "ca1"})
	s = must(t, s, DropAuthority{Seen: s.Trust.Index, Digest: "ca1"})
	if len(s.Trust.Authorities) != 1 || s.Trust.Signer != "ca2" {
		t.Errorf("%+v", s.Trust)
	}
	refuse(t, s, SetGossipKeys{Seen: s.Trust.Index}, ErrOutOfRange, "key")
	old := s.Trust.Gossip[0]
	s = must(t, s, SetGossipKeys{Seen: s.Trust.Index, Keys: []GossipKey{old, {ID: "g2", Key: []byte{9}}}})
	if g := s.Trust.Gossip; len(g) != 2 || g[0].ID != "g1" || g[0].Since != old.Since || g[1].Since != s.Stamp {
		t.Errorf("%+v", g)
	}
}
