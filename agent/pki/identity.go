// Package pki is who may speak to whom: the cluster's certificate authority, the
// identities in certificates, join tokens, sealed values, and TLS that looks at all
// of these anew at each handshake.
//
// It owns the formats of keys, certificates, tokens and sealed values. It promises
// that a signer takes nothing of a request but its key, that only TLS 1.3 is spoken,
// that a connection is checked again whenever its owner asks, and that no error shows
// a secret. It imports nothing of ours, keeps no state between two runs and never
// decides who is a member: it asks the check that it is given.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// ErrIdentity means that a certificate does not say who its owner is in a cluster.
var ErrIdentity = errors.New("certificate without an identity of a cluster")

// Identity is who a certificate speaks for: a node or a person of one cluster. One
// without a name is a stranger's, who has shown nothing but a key.
type Identity struct {
	Cluster string
	Node    string // one of Node and Person
	Person  string
	Key     string // digest of the public key, see KeyDigest
}

// Stranger says whether nothing but a key is known.
func (i Identity) Stranger() bool { return i.Node == "" && i.Person == "" }

func (i Identity) String() string {
	switch {
	case i.Node != "":
		return "node " + i.Node
	case i.Person != "":
		return i.Person
	}
	return "a stranger"
}

// scheme of the URI that holds an identity: orch://CLUSTER/node/ID, or /person/NAME.
const scheme = "orch"

var (
	clusterRE = regexp.MustCompile(`^[0-9a-f]{8,64}$`)
	nameRE    = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)
)

// ValidName says whether a node or a person may have that name.
func ValidName(name string) bool { return nameRE.MatchString(name) }

func (i Identity) uri() (*url.URL, error) {
	kind, name := "node", i.Node
	if name == "" {
		kind, name = "person", i.Person
	}
	if !clusterRE.MatchString(i.Cluster) || !ValidName(name) || i.Node != "" && i.Person != "" {
		return nil, fmt.Errorf("%w: cluster %q, %s %q", ErrIdentity, i.Cluster, kind, name)
	}
	return &url.URL{Scheme: scheme, Host: i.Cluster, Path: "/" + kind + "/" + name}, nil
}

// IdentityOf reads the identity of a certificate that has been verified. A certificate
// without a URI is a stranger's; anything else that is not an identity is ErrIdentity.
func IdentityOf(c *x509.Certificate) (Identity, error) {
	key, err := KeyDigest(c.PublicKey)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{Key: key}
	if len(c.URIs) == 0 {
		return id, nil
	}
	u := c.URIs[0]
	kind, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	id.Cluster = u.Host
	switch kind {
	case "node":
		id.Node = name
	case "person":
		id.Person = name
	}
	// What is read must be what would be written: no query, port or escape besides.
	if want, err := id.uri(); err != nil || len(c.URIs) != 1 || want.String() != u.String() {
		return Identity{}, fmt.Errorf("%w: %q", ErrIdentity, c.URIs)
	}
	return id, nil
}

// KeyDigest names a public key: SHA-256 of its PKIX form, in hex. Keys are ECDSA on
// P-256 and nothing else.
func KeyDigest(public any) (string, error) {
	k, ok := public.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return "", fmt.Errorf("%w: key %T: only ECDSA on P-256 is used", ErrIdentity, public)
	}
	der, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	return digest(der), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
