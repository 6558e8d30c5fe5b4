package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// Role is what a person may do.
type Role string

// The roles; each may do what those before it may.
const (
	RoleRead   Role = "read"   // look
	RoleDeploy Role = "deploy" // change services
	RoleAdmin  Role = "admin"  // change the cluster, and who may do what
)

var roles = []Role{RoleRead, RoleDeploy, RoleAdmin}

// Valid says whether there is such a role.
func (r Role) Valid() bool { return slices.Contains(roles, r) }

// Includes says whether r may do what least may. No role includes nothing.
func (r Role) Includes(least Role) bool {
	return r.Valid() && slices.Index(roles, r) >= slices.Index(roles, least)
}

// Trust is who may take part in the cluster. What is secret in it is sealed under the
// cluster's key, which is neither in the log nor in a snapshot.
type Trust struct {
	// Authorities are those whose certificates count, the oldest first.
	Authorities []Authority `json:"authorities,omitempty"`
	// Signer is the Digest of the authority that signs.
	Signer string `json:"signer,omitempty"`
	// Gossip are the keys that gossip is read with; the first is written with.
	Gossip []GossipKey `json:"gossip,omitempty"`
	// Index is the index that last touched authorities or gossip keys.
	Index uint64 `json:"index,omitempty"`

	Token   JoinToken    `json:"token,omitzero"`
	People  []Person     `json:"people,omitempty"`  // by Name
	Revoked []Revocation `json:"revoked,omitempty"` // by Key
}

// Authority is a CA of the cluster.
type Authority struct {
	Digest string `json:"digest"` // SHA-256 of the certificate, in hex
	Cert   []byte `json:"cert"`   // DER
	Key    []byte `json:"key"`    // sealed
	Since  int64  `json:"since"`  // stamp, ms
}

// GossipKey encrypts gossip.
type GossipKey struct {
	ID    string `json:"id"`
	Key   []byte `json:"key"` // sealed
	Since int64  `json:"since"`
}

// JoinToken lets nodes in until it expires or is used up.
type JoinToken struct {
	Digest  string `json:"digest"`  // SHA-256 of the secret, in hex
	Secret  []byte `json:"secret"`  // sealed
	Expires int64  `json:"expires"` // stamp, ms
	Uses    int    `json:"uses"`    // that are left
	Since   int64  `json:"since"`   // stamp, ms
}

// Person may use the API from elsewhere, by a certificate for Key.
type Person struct {
	Name  string `json:"name"`
	Role  Role   `json:"role"`
	Key   string `json:"key"`   // digest of the public key
	Until int64  `json:"until"` // end of the certificate; a stamp, ms
	Since int64  `json:"since"`
	By    string `json:"by,omitempty"`
}

// Revocation shuts out the key of a node that is gone. It stands as long as a CA is
// trusted that was there when the node was: a node that is cut off makes certificates
// for itself with that, whatever the age of its first.
type Revocation struct {
	Key   string `json:"key"`
	Node  string `json:"node"`
	Until int64  `json:"until,omitempty"` // revokedFor later than Since, where there is no Since: stamp, ms
	Since int64  `json:"since,omitempty"` // stamp, ms
	// Left: it has left, or counts as if it had, since it was Lost: it was not told to
	// leave, and may come back and believe itself a member. Neither: removed by hand.
	Left bool `json:"left,omitempty"`
	Lost bool `json:"lost,omitempty"`
}

// At is when the key was shut out: stamp, ms.
func (r Revocation) At() int64 {
	if r.Since == 0 {
		return r.Until - revokedFor
	}
	return r.Since
}

// revokedFor is how long (ms) a revocation without Since was meant to last.
const revokedFor = 100 * 24 * 3600 * 1000

const (
	// MaxPeople bounds the list: a cluster is steered by a team, not by its users.
	MaxPeople = 200
	// MaxRevoked bounds the list: a node a day goes, for ten years, which is the life
	// of a CA; with its end the list is emptied. Half a megabyte.
	MaxRevoked = 4000
)

// Person returns the person of that name.
func (t Trust) Person(name string) (Person, bool) {
	i, ok := findPerson(t.People, name)
	if !ok {
		return Person{}, false
	}
	return t.People[i], true
}

// IsRevoked says whether a key is shut out.
func (t Trust) IsRevoked(key string) bool {
	_, ok := t.Revocation(key)
	return ok
}

// Revocation returns that of a key.
func (t Trust) Revocation(key string) (Revocation, bool) {
	i, ok := findRevocation(t.Revoked, key)
	if !ok {
		return Revocation{}, false
	}
	return t.Revoked[i], true
}

// Authority returns the CA with that digest.
func (t Trust) Authority(digest string) (Authority, bool) {
	for _, a := range t.Authorities {
		if a.Digest == digest {
			return a, true
		}
	}
	return Authority{}, false
}

func findPerson(s []Person, name string) (int, bool) {
	return slices.BinarySearchFunc(s, name, func(p Person, n string) int { return cmp.Compare(p.Name, n) })
}

func findRevocation(s []Revocation, key string) (int, bool) {
	return slices.BinarySearchFunc(s, key, func(r Revocation, k string) int { return cmp.Compare(r.Key, k) })
}

// checkTrust: the lists are sorted and bounded, and the CA that signs is trusted.
func checkTrust(s *State) error {
	t := s.Trust
	if _, ok := t.Authority(t.Signer); t.Signer != "" && !ok || t.Signer == "" && len(t.Authorities) > 0 {
		return fmt.Errorf("CA %q signs and is not trusted", t.Signer)
	}
	if len(t.People) > MaxPeople || len(t.Authorities) > 2 || len(t.Revoked) > MaxRevoked {
		return fmt.Errorf("%d people, %d CAs, %d revoked keys", len(t.People), len(t.Authorities), len(t.Revoked))
	}
	for i := 1; i < len(t.People); i++ {
		if t.People[i-1].Name >= t.People[i].Name {
			return fmt.Errorf("person %q is not after %q", t.People[i].Name, t.People[i-1].Name)
		}
	}
	for i := 1; i < len(t.Revoked); i++ {
		if t.Revoked[i-1].Key >= t.Revoked[i].Key {
			return fmt.Errorf("revoked key %d is not after the one before", i)
		}
	}
	return nil
}
