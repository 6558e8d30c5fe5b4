package consensus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"testing"
	"time"
)

// tlsLayer is mutual TLS as a Layer of Config.
type tlsLayer struct {
	net.Listener
	config *tls.Config
}

func (l *tlsLayer) Dial(_, addr string, timeout time.Duration) (net.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: timeout}, "tcp", addr, l.config)
}

// mutualTLS makes one certificate that all nodes share and nobody else has.
func mutualTLS(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
}

// The seam for mutual TLS carries everything, and the gate cuts it too.
func TestClusterOverTLS(t *testing.T) {
	config := mutualTLS(t)
	c := newCluster(t, 3, func(_ int, cfg *Config) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		cfg.Layer = &tlsLayer{Listener: tls.NewListener(l, config), config: config}
	})
	c.propose("before")
	old := c.leader()
	stranger, err := net.Dial("tcp", old.Addr())
	must(t, err)
	defer stranger.Close()
	must(t, stranger.SetDeadline(time.Now().Add(patience)))
	if _, err := stranger.Write(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	// TLS says that this is no handshake, and hangs up.
	if b, err := io.ReadAll(stranger); len(b) > 16 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger in the clear got %q, %v", b, err)
	}
	old.gate.hold()
	c.propose("meanwhile", old)
	old.gate.release()
	c.agree("before", "meanwhile")
}

// Whatever arrives on the port, the node goes on.
func TestGarbageOnThePort(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := mrand.New(mrand.NewPCG(seed, 1))
	for i := range 200 {
		conn, err := net.Dial("tcp", leader.Addr())
		must(t, err)
		b := make([]byte, 1+r.IntN(2000))
		for j := range b {
			b[j] = byte(r.Uint32())
		}
		b[0] = byte(i % 6) // each kind of message, and one that does not exist
		if i%3 == 0 && len(b) > 8 {
			copy(b[1:], []byte{0x8f, 0xdf, 0xff, 0xff, 0xff, 0xff}) // a map, a huge length
		}
		if _, err := conn.Write(b); err != nil {
			t.Log(err)
		}
		conn.Close()
	}
	c.propose("goes on")
	c.agree("goes on")
}
