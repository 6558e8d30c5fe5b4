package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Lives of certificates.
const (
	LifeCA     = 10 * 365 * 24 * time.Hour
	LifeNode   = 90 * 24 * time.Hour
	LifePerson = 365 * 24 * time.Hour
	// backdate lets a certificate begin before it is made, so that a clock that is
	// behind by no more than MaxSkew can use it at once.
	backdate = 2 * MaxSkew
	// backdateCA lets a CA begin long before it is made: one of a clock that was ahead
	// would be of use to nobody else, and all follow it.
	backdateCA = 365 * 24 * time.Hour
	// MaxSkew is how far the clocks of two nodes may be apart.
	MaxSkew = 5 * time.Minute
	// strangerLife is that of the certificate a joiner shows; nobody looks at it.
	strangerLife = time.Hour
)

// ErrPEM means that a file is not what its name says.
var ErrPEM = errors.New("not the PEM that was expected")

// CA signs the certificates of one cluster.
type CA struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewKey makes a key.
func NewKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// NewCA makes the authority of a cluster.
func NewCA(cluster string, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	c, err := template(pkix.Name{CommonName: "orch cluster " + cluster}, now, LifeCA)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	c.NotBefore = now.Add(-backdateCA)
	c.IsCA, c.BasicConstraintsValid, c.MaxPathLenZero = true, true, true
	c.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return &CA{cert, key}, nil
}

// OpenCA puts a CA together from its certificate and the bytes of Key.
func OpenCA(cert *x509.Certificate, keyDER []byte) (*CA, error) {
	key, err := x509.ParseECPrivateKey(keyDER)
	if err != nil {
		return nil, fmt.Errorf("open CA key: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("open CA key: it is not the key of the CA's certificate")
	}
	return &CA{cert, key}, nil
}

// Key returns the private key for sealing.
func (c *CA) Key() ([]byte, error) { return x509.MarshalECPrivateKey(c.key) }

// Digest names a CA, in tokens and in the table: SHA-256 of its certificate, in hex.
func Digest(ca *x509.Certificate) string { return digest(ca.Raw) }

// Sign certifies that the owner of a public key is who. All of the certificate but the
// key is the signer's word.
func (c *CA) Sign(who Identity, public crypto.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if _, err := KeyDigest(public); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	uri, err := who.uri()
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	t, err := template(pkix.Name{CommonName: who.String()}, now, life)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	t.URIs = append(t.URIs, uri)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if who.Node != "" {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, c.Cert, public, c.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

func template(name pkix.Name, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{SerialNumber: serial, Subject: name, NotBefore: now.Add(-backdate), NotAfter: now.Add(life)}, nil
}

// Request makes a signing request (PKCS #10) that says nothing but the key.
func Request(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

// ReadRequest returns the key of a request whose sender has it, and its digest.
func ReadRequest(der []byte) (public crypto.PublicKey, key string, err error) {
	r, err := x509.ParseCertificateRequest(der)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, "", fmt.Errorf("read signing request: %w", err)
	}
	if key, err = KeyDigest(r.PublicKey); err != nil {
		return nil, "", fmt.Errorf("read signing request: %w", err)
	}
	return r.PublicKey, key, nil
}

// The PEM blocks of the files of a node and of a bundle.
const (
	blockCert = "CERTIFICATE"
	blockKey  = "EC PRIVATE KEY"
)

// EncodeCerts writes certificates as PEM.
func EncodeCerts(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: c.Raw})...)
	}
	return out
}

// DecodeCerts reads one certificate or more, and nothing else.
func DecodeCerts(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for len(b) > 0 {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != blockCert {
			return nil, fmt.Errorf("%w: certificates", ErrPEM)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificates: %w", ErrPEM, err)
		}
		out, b = append(out, c), rest
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: certificates, but it is empty", ErrPEM)
	}
	return out, nil
}

// EncodeKey writes a private key as PEM.
func EncodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

// DecodeKey reads what EncodeKey wrote.
func DecodeKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, rest := pem.Decode(b)
	if block == nil || block.Type != blockKey || len(rest) > 0 {
		return nil, fmt.Errorf("%w: a private key", ErrPEM)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: a private key", ErrPEM) // err may show bytes of it
	}
	if _, err := KeyDigest(&key.PublicKey); err != nil {
		return nil, err
	}
	return key, nil
}
