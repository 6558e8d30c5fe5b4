package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrNoCertificate means that this node is in no cluster yet.
	ErrNoCertificate = errors.New("this node has no certificate yet")
	// ErrUntrusted means that a peer's certificate is none of this cluster, or no more.
	ErrUntrusted = errors.New("certificate refused")
)

// Check says why a peer whose certificate is in order is refused all the same: it was
// removed, for example. It is asked at each handshake and must not block.
type Check func(Identity) error

// Credentials are what a node or a person has: a certificate, its key, and the CAs of
// the cluster. They are not changed once they are in use.
type Credentials struct {
	Cluster string
	Key     *ecdsa.PrivateKey
	Cert    *x509.Certificate
	CAs     []*x509.Certificate // those that are trusted
	pair    tls.Certificate
	pool    *x509.CertPool
	seen    *seen
}

// Complete checks that the parts fit, and makes the credentials ready for use.
func (c Credentials) Complete() (*Credentials, error) {
	if c.Key == nil || c.Cert == nil || len(c.CAs) == 0 {
		return nil, errors.New("credentials: a key, a certificate and a CA are needed")
	}
	if !c.Key.PublicKey.Equal(c.Cert.PublicKey) {
		return nil, errors.New("credentials: the certificate is for another key")
	}
	c.pool, c.seen = x509.NewCertPool(), &seen{until: map[seenKey]life{}}
	c.pair = tls.Certificate{Certificate: [][]byte{c.Cert.Raw}, PrivateKey: c.Key, Leaf: c.Cert}
	for _, ca := range c.CAs {
		c.pool.AddCert(ca)
		// A joiner knows the CA by its digest: it goes along with the certificate.
		if c.Cert.CheckSignatureFrom(ca) == nil {
			c.pair.Certificate = append(c.pair.Certificate, ca.Raw)
		}
	}
	if len(c.pair.Certificate) == 1 {
		return nil, errors.New("credentials: the certificate is not signed by a CA among those that are trusted")
	}
	return &c, nil
}

// Identity is whom the certificate speaks for.
func (c *Credentials) Identity() (Identity, error) { return IdentityOf(c.Cert) }

// Issuer is the Digest of the CA that signed the certificate.
func (c *Credentials) Issuer() string { return digest(c.pair.Certificate[1]) }

// Live holds credentials that may be replaced while connections use them: each
// handshake takes the newest. The zero Live has none.
type Live struct{ now atomic.Pointer[Credentials] }

// Set replaces the credentials.
func (l *Live) Set(c *Credentials) { l.now.Store(c) }

// Get returns the credentials, or nil.
func (l *Live) Get() *Credentials { return l.now.Load() }

// Server is TLS for a listener of this node. Peers show a certificate of the cluster
// that check lets in; where strangers is true, also one that they made themselves.
func (l *Live) Server(strangers bool, check Check) *tls.Config {
	c := base()
	c.ClientAuth = tls.RequireAnyClientCert // verified below, against the newest CAs
	c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.pair() }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := l.verify(cs, strangers, x509.ExtKeyUsageClientAuth, check)
		return err
	}
	return c
}

// Client is TLS to a node of the cluster: the one named, or any where node is empty.
func (l *Live) Client(node string, check Check) *tls.Config {
	c := base()
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.pair() }
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		id, err := l.verify(cs, false, x509.ExtKeyUsageServerAuth, check)
		switch {
		case err != nil:
			return err
		case id.Node == "":
			return fmt.Errorf("%w: it is not a node's", ErrUntrusted)
		case node != "" && id.Node != node:
			return fmt.Errorf("%w: node %s answers where %s is expected", ErrUntrusted, id.Node, node)
		}
		return nil
	}
	return c
}

// base is TLS 1.3 without resumption: each connection is a handshake, and checked.
// Verification is done by VerifyConnection, for names in certificates are not hosts.
func base() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true, InsecureSkipVerify: true,
	}
}

func (l *Live) pair() (*tls.Certificate, error) {
	c := l.Get()
	if c == nil {
		return nil, ErrNoCertificate
	}
	return &c.pair, nil
}

func (l *Live) verify(cs tls.ConnectionState, strangers bool, use x509.ExtKeyUsage, check Check) (Identity, error) {
	own := l.Get()
	if own == nil {
		return Identity{}, ErrNoCertificate
	}
	if len(cs.PeerCertificates) == 0 {
		return Identity{}, fmt.Errorf("%w: none was shown", ErrUntrusted)
	}
	leaf := cs.PeerCertificates[0]
	id, err := IdentityOf(leaf)
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrUntrusted, err)
	}
	if id.Stranger() {
		if !strangers || !selfSigned(leaf) {
			return id, fmt.Errorf("%w: it says nothing of who shows it", ErrUntrusted)
		}
		return id, nil
	}
	if id.Cluster != own.Cluster {
		return id, fmt.Errorf("%w: %s is of cluster %s, this is %s", ErrUntrusted, id, id.Cluster, own.Cluster)
	}
	if err := own.trusts(leaf, use, time.Now()); err != nil {
		return id, fmt.Errorf("%w: of %s: %w", ErrUntrusted, id, err)
	}
	if check != nil {
		if err := check(id); err != nil {
			return id, fmt.Errorf("%w: of %s: %w", ErrUntrusted, id, err)
		}
	}
	return id, nil
}

// Again verifies a peer that was let in before: by the CAs that are trusted now, and by
// the time. It is meant to be asked for each request.
func (l *Live) Again(cs *tls.ConnectionState) error {
	_, err := l.verify(*cs, true, x509.ExtKeyUsageClientAuth, nil)
	return err
}

// seen are the certificates that these credentials have found to lead to one of their
// CAs, so that a connection can be verified often.
type seen struct {
	mu    sync.Mutex
	until map[seenKey]life
}

type seenKey struct {
	leaf [sha256.Size]byte
	use  x509.ExtKeyUsage
}

// life is when all certificates of a chain are valid.
type life struct{ from, to time.Time }

// maxSeen certificates are remembered: more than there are nodes and people. Beyond them
// all are looked at anew.
const maxSeen = 1024

// trusts verifies a certificate against the CAs.
func (c *Credentials) trusts(leaf *x509.Certificate, use x509.ExtKeyUsage, now time.Time) error {
	key := seenKey{sha256.Sum256(leaf.Raw), use}
	c.seen.mu.Lock()
	l, ok := c.seen.until[key]
	c.seen.mu.Unlock()
	if ok && !now.Before(l.from) && !now.After(l.to) {
		return nil
	}
	chains, err := leaf.Verify(x509.VerifyOptions{Roots: c.pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{use}})
	if err != nil {
		return err
	}
	l = life{leaf.NotBefore, leaf.NotAfter}
	for _, x := range chains[0] {
		if x.NotBefore.After(l.from) {
			l.from = x.NotBefore
		}
		if x.NotAfter.Before(l.to) {
			l.to = x.NotAfter
		}
	}
	c.seen.mu.Lock()
	defer c.seen.mu.Unlock()
	if len(c.seen.until) >= maxSeen {
		clear(c.seen.until)
	}
	c.seen.until[key] = l
	return nil
}

// selfSigned checks the signature with the certificate's own key: CheckSignatureFrom
// would want it to be a CA's.
func selfSigned(c *x509.Certificate) bool {
	return !c.IsCA && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// PeerOf is who is at the other end of a connection that was verified by a Live.
func PeerOf(cs *tls.ConnectionState) (Identity, bool) {
	if cs == nil || !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return Identity{}, false
	}
	id, err := IdentityOf(cs.PeerCertificates[0])
	return id, err == nil
}

// Joining is TLS of one who is in no cluster yet, to a node of the cluster whose CA
// has that digest. The joiner shows a certificate that it made of its key by itself.
func Joining(key *ecdsa.PrivateKey, ca [32]byte, now func() time.Time) (*tls.Config, error) {
	t, err := template(pkix.Name{CommonName: "orch joiner"}, now(), strangerLife)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c := base()
	c.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	c.VerifyConnection = func(cs tls.ConnectionState) error { return pinned(cs.PeerCertificates, ca, now()) }
	return c, nil
}

// pinned checks a chain against the digest of its CA.
func pinned(chain []*x509.Certificate, ca [32]byte, now time.Time) error {
	for _, c := range chain[1:] {
		d, want := digest(c.Raw), Token{CA: ca}.PinnedCA()
		if subtle.ConstantTimeCompare([]byte(d), []byte(want)) != 1 {
			continue
		}
		pool := x509.NewCertPool()
		pool.AddCert(c)
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		var invalid x509.CertificateInvalidError
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
			return fmt.Errorf("%w: by this machine's clock (%s) the certificate of the node there is not valid, but from %s to %s: set the clock ('timedatectl set-ntp true') and try again",
				ErrUntrusted, now.UTC().Format(time.RFC3339), chain[0].NotBefore.Format(time.RFC3339), chain[0].NotAfter.Format(time.RFC3339))
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUntrusted, err)
		}
		if id, err := IdentityOf(chain[0]); err != nil || id.Node == "" {
			return fmt.Errorf("%w: it is not a node's", ErrUntrusted)
		}
		return nil
	}
	return fmt.Errorf("%w: the node there is not of the cluster that made the token (or its CA has been rotated since): 'orchctl token show' on it prints the right one", ErrUntrusted)
}
