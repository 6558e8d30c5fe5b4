package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"
)

// said is a connection whose other end has said all that it will.
type said struct {
	*bytes.Reader
	back int
}

func (s *said) Write(b []byte) (int, error) { s.back += len(b); return len(b), nil }
func (*said) Close() error                  { return nil }
func (*said) LocalAddr() net.Addr           { return &net.TCPAddr{} }
func (*said) RemoteAddr() net.Addr          { return &net.TCPAddr{} }
func (*said) SetDeadline(time.Time) error   { return nil }
func (*said) SetReadDeadline(time.Time) error {
	return nil
}
func (*said) SetWriteDeadline(time.Time) error { return nil }

// FuzzHandshake: whatever a stranger says first, no handshake comes of it, and little is
// said in return.
func FuzzHandshake(f *testing.F) {
	now := time.Now()
	ca, err := NewCA("00112233445566778899aabbccddeeff", now)
	if err != nil {
		f.Fatal(err)
	}
	key, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	cert, err := ca.Sign(Identity{Cluster: "00112233445566778899aabbccddeeff", Node: "n1"}, key.Public(), now, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	c, err := Credentials{Cluster: "00112233445566778899aabbccddeeff", Key: key, Cert: cert, CAs: []*x509.Certificate{ca.Cert}}.Complete()
	if err != nil {
		f.Fatal(err)
	}
	var live Live
	live.Set(c)
	hello := &said{Reader: bytes.NewReader(nil)}
	var sent bytes.Buffer
	tls.Client(&talker{hello, &sent}, &tls.Config{InsecureSkipVerify: true}).Handshake() // ends after its first word
	f.Add(sent.Bytes())
	f.Add([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, strangers := range []bool{false, true} {
			conn := &said{Reader: bytes.NewReader(data)}
			if tls.Server(conn, live.Server(strangers, nil)).Handshake() == nil {
				t.Fatal("a handshake without a key")
			}
			if conn.back > 4096 {
				t.Fatalf("%d bytes in return", conn.back)
			}
		}
	})
}

// talker notes what is said.
type talker struct {
	*said
	sent io.Writer
}

func (t *talker) Write(b []byte) (int, error) { return t.sent.Write(b) }
