package api

import (
	"context"
	"crypto"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"orch/fsm"
)

// Truster decides who may take part in the cluster.
type Truster interface {
	// MayTry counts a join that an address begins, and refuses it where too many have
	// failed. ended is to be told how it went; nil costs the address nothing.
	MayTry(from string) (ended func(error), err error)
	// Admit takes a node into the cluster, whose connection has shown key.
	Admit(ctx context.Context, r AdmitRequest, key string) (Admitted, error)
	Trust(ctx context.Context) (Trust, error)
	JoinToken(ctx context.Context) (JoinToken, error)
	// NewJoinToken makes the one token that lets nodes in.
	NewJoinToken(ctx context.Context, o TokenOrder, by string) (JoinToken, error)
	Grant(ctx context.Context, g GrantOrder, by string) (Granted, error)
	Revoke(ctx context.Context, name, by string) error
	// Unconfirmed names the nodes that do not say within a moment that they have
	// applied all that this one has.
	Unconfirmed(ctx context.Context) []string
	// RotateCA and RotateGossip begin an exchange that the leader ends. key is that of the
	// person who asks, whose certificate would end with it; nil on the socket.
	RotateCA(ctx context.Context, by string, key crypto.PublicKey) (Rotated, error)
	RotateGossip(ctx context.Context, by string) error
	// Seal hides the secret values of a spec; those that are sealed already it checks.
	Seal(s fsm.Spec) (fsm.Spec, error)
}

// AdmitRequest is how a node asks to be let in.
type AdmitRequest struct {
	Node     fsm.Node `json:"node"`
	Secret   []byte   `json:"secret"`   // of the join token
	Request  []byte   `json:"request"`  // PKCS #10, which says nothing but the key
	Now      int64    `json:"now"`      // the joiner's clock, ms
	Protocol int      `json:"protocol"` // what the joiner speaks with other nodes
}

// Admitted is what a node gets that is let in. It is for that node's eyes alone.
type Admitted struct {
	Admission
	Certificate []byte   `json:"certificate"` // PEM
	Authorities []byte   `json:"authorities"` // PEM, one or two
	ClusterKey  []byte   `json:"cluster_key"`
	GossipKeys  [][]byte `json:"gossip_keys"`
}

// JoinToken lets nodes in. Token itself is a secret.
type JoinToken struct {
	Token   string    `json:"token"`
	Addr    string    `json:"addr"` // of the API of a node to join through
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"` // that are left
}

// TokenOrder asks for a new token.
type TokenOrder struct {
	TTLMS int64 `json:"ttl_ms"`
	Uses  int   `json:"uses"`
}

// GrantOrder asks for a certificate for a person.
type GrantOrder struct {
	Name    string   `json:"name"`
	Role    fsm.Role `json:"role"`
	Request []byte   `json:"request"` // PKCS #10
	TTLMS   int64    `json:"ttl_ms"`  // life of the certificate
}

// Granted is what a person needs besides the key.
type Granted struct {
	ClusterID   string    `json:"cluster_id"`
	Name        string    `json:"name"`
	Role        fsm.Role  `json:"role"`
	Certificate []byte    `json:"certificate"` // PEM
	Authorities []byte    `json:"authorities"` // PEM
	Addrs       []string  `json:"addrs"`       // of the API of every node
	Until       time.Time `json:"until"`
}

// Rotated says that a new CA is trusted beside the one that signs.
type Rotated struct {
	Begun bool `json:"begun"` // false where an exchange was under way already
	// Certificate of the new CA for the key and the grant of the person who asked, and the
	// CAs to trust with it; both empty on the socket.
	Certificate []byte `json:"certificate,omitempty"` // PEM
	Authorities []byte `json:"authorities,omitempty"` // PEM
}

// Trust is who may take part, without secrets.
type Trust struct {
	Node        CertInfo        `json:"node"` // the certificate of the node that was asked
	Authorities []AuthorityInfo `json:"authorities"`
	Token       TokenInfo       `json:"token"`
	Gossip      []KeyInfo       `json:"gossip"`
	People      []PersonInfo    `json:"people"`
	Revoked     []RevokedInfo   `json:"revoked"`
	Pending     string          `json:"pending"` // what an exchange of keys waits for; empty without one
}

// CertInfo is a certificate of a node.
type CertInfo struct {
	Node  string    `json:"node"`
	CA    string    `json:"ca"` // digest
	Until time.Time `json:"until"`
	Renew time.Time `json:"renew"`
}

// AuthorityInfo is a CA that is trusted.
type AuthorityInfo struct {
	Digest string    `json:"digest"`
	Signs  bool      `json:"signs"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
}

// TokenInfo is the join token without its secret.
type TokenInfo struct {
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"`
}

// KeyInfo is a key without its secret.
type KeyInfo struct {
	ID    string    `json:"id"`
	Since time.Time `json:"since"`
}

// PersonInfo is one who may use the API from elsewhere.
type PersonInfo struct {
	Name  string    `json:"name"`
	Role  fsm.Role  `json:"role"`
	Until time.Time `json:"until"`
	By    string    `json:"by"`
}

// RevokedInfo is a node whose key is shut out.
type RevokedInfo struct {
	Node  string    `json:"node"`
	Since time.Time `json:"since"`
}

// ShutOut says how far the word has come that somebody is shut out. It is committed.
type ShutOut struct {
	Unconfirmed []string `json:"unconfirmed"` // nodes; each refuses as soon as it hears of it
}

// shutOut answers when every node that answers knows, and names those that do not.
func (s *Server) shutOut(w http.ResponseWriter, r *http.Request, err error) {
	o := ShutOut{Unconfirmed: []string{}}
	if err == nil {
		o.Unconfirmed = append(o.Unconfirmed, s.node.Unconfirmed(r.Context())...)
	}
	reply(w, o, err)
}

// trustRoutes are those of this file; admin and read wrap a handler, and join is for
// strangers, who have nothing but a token.
func (s *Server) trustRoutes(read, admin, join func(pattern string, h http.HandlerFunc)) {
	join("POST /v1/admit", s.admit)
	read("GET /v1/trust", func(w http.ResponseWriter, r *http.Request) {
		t, err := s.node.Trust(r.Context())
		reply(w, t, err)
	})
	admin("GET /v1/token", func(w http.ResponseWriter, r *http.Request) {
		t, err := s.node.JoinToken(r.Context())
		reply(w, t, err)
	})
	admin("POST /v1/token", s.newToken)
	admin("POST /v1/people", s.grant)
	admin("DELETE /v1/people/{name}", func(w http.ResponseWriter, r *http.Request) {
		s.shutOut(w, r, retry(r.Context(), false, func(ctx context.Context, _ bool) error {
			return s.node.Revoke(ctx, r.PathValue("name"), s.by(r))
		}))
	})
	admin("POST /v1/ca/rotate", func(w http.ResponseWriter, r *http.Request) {
		var key crypto.PublicKey
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			key = r.TLS.PeerCertificates[0].PublicKey
		}
		var done Rotated
		err := retry(r.Context(), false, func(ctx context.Context, _ bool) (err error) {
			done, err = s.node.RotateCA(ctx, s.by(r), key)
			return err
		})
		reply(w, done, err)
	})
	admin("POST /v1/gossip/rotate", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, retry(r.Context(), false, func(ctx context.Context, _ bool) error { return s.node.RotateGossip(ctx, s.by(r)) }))
	})
}

// maxAdmit bounds what is read of a stranger, in bytes: a node and a request for a
// certificate have under a thousand.
const maxAdmit = 16 << 10

// tooManyPause comes before the answer to an address that has to wait: each of its
// connections, of which a node keeps 512, can ask 20 times a second.
const tooManyPause = 50 * time.Millisecond

func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	ended, err := s.node.MayTry(r.RemoteAddr) // before a byte of it is read
	if err != nil {
		select { // or a flood would be as fast as it is cheap to refuse
		case <-time.After(tooManyPause):
		case <-r.Context().Done():
		}
		fail(w, err)
		return
	}
	defer func() { ended(err) }()
	var q AdmitRequest
	r.Body = http.MaxBytesReader(w, r.Body, maxAdmit)
	if err = read(w, r, &q); err != nil {
		fail(w, err)
		return
	}
	var a Admitted
	err = retry(r.Context(), true, func(ctx context.Context, _ bool) (err error) {
		a, err = s.node.Admit(ctx, q, s.identify(r).Key)
		return err
	})
	reply(w, a, err)
}

// Limits of what lets others in.
const (
	maxTokenTTL  = 30 * 24 * time.Hour
	maxTokenUses = 1000
	maxGrantTTL  = 366 * 24 * time.Hour
)

func (s *Server) newToken(w http.ResponseWriter, r *http.Request) {
	var o TokenOrder
	err := read(w, r, &o)
	ttl := time.Duration(o.TTLMS) * time.Millisecond
	switch {
	case err != nil:
	case ttl < time.Second || ttl > maxTokenTTL:
		err = fmt.Errorf("%w: ttl %s: give between 1s and %s, for example 1h", ErrBad, ttl, maxTokenTTL)
	case o.Uses < 1 || o.Uses > maxTokenUses:
		err = fmt.Errorf("%w: uses %d: give between 1 and %d", ErrBad, o.Uses, maxTokenUses)
	}
	if err != nil {
		fail(w, err)
		return
	}
	var t JoinToken
	err = retry(r.Context(), true, func(ctx context.Context, _ bool) (err error) {
		t, err = s.node.NewJoinToken(ctx, o, s.by(r))
		return err
	})
	reply(w, t, err)
}

func (s *Server) grant(w http.ResponseWriter, r *http.Request) {
	var o GrantOrder
	err := read(w, r, &o)
	ttl := time.Duration(o.TTLMS) * time.Millisecond
	switch {
	case err != nil:
	case !o.Role.Valid():
		err = fmt.Errorf("%w: role %q: choose read, deploy or admin", ErrBad, o.Role)
	case ttl < time.Minute || ttl > maxGrantTTL:
		err = fmt.Errorf("%w: ttl %s: give between 1m and %s, for example 720h", ErrBad, ttl, maxGrantTTL)
	}
	if err != nil {
		fail(w, err)
		return
	}
	var g Granted
	err = retry(r.Context(), true, func(ctx context.Context, _ bool) (err error) {
		g, err = s.node.Grant(ctx, o, s.by(r))
		return err
	})
	reply(w, g, err)
}

// Admit asks the cluster to take a node in.
func (c *Client) Admit(ctx context.Context, q AdmitRequest) (a Admitted, err error) {
	return a, c.call(ctx, http.MethodPost, "/v1/admit", q, &a)
}

// Trust says who may take part.
func (c *Client) Trust(ctx context.Context) (t Trust, err error) {
	return t, c.call(ctx, http.MethodGet, "/v1/trust", nil, &t)
}

// JoinToken returns the token that is valid now.
func (c *Client) JoinToken(ctx context.Context) (t JoinToken, err error) {
	return t, c.call(ctx, http.MethodGet, "/v1/token", nil, &t)
}

// NewJoinToken makes a new token; the one before is void.
func (c *Client) NewJoinToken(ctx context.Context, ttl time.Duration, uses int) (t JoinToken, err error) {
	return t, c.call(ctx, http.MethodPost, "/v1/token", TokenOrder{ttl.Milliseconds(), uses}, &t)
}

// Grant has a certificate made for a person.
func (c *Client) Grant(ctx context.Context, o GrantOrder) (g Granted, err error) {
	return g, c.call(ctx, http.MethodPost, "/v1/people", o, &g)
}

// Revoke shuts a person out.
func (c *Client) Revoke(ctx context.Context, name string) (o ShutOut, err error) {
	return o, c.call(ctx, http.MethodDelete, "/v1/people/"+url.PathEscape(name), nil, &o)
}

// RotateCA begins the exchange of the CA.
func (c *Client) RotateCA(ctx context.Context) (r Rotated, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/ca/rotate", nil, &r)
}

// RotateGossip begins the exchange of the key of gossip.
func (c *Client) RotateGossip(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/gossip/rotate", nil, nil)
}
