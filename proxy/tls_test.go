package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certify writes a certificate with a serial number, and its key.
func certify(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "h"}, DNSNames: []string{"h"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// startTLS runs a proxy on a port of its own with TLS.
func startTLS(t *testing.T, dir string, table Table) string {
	t.Helper()
	cert, key := certify(t, dir, 1)
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure, err := Secure(l, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	source := &counter{}
	p := New(Config{Node: "n1", DrainTimeout: 2 * time.Second}, node{source, "n1"}, &heard{})
	p.SetTable(table)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, secure) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func dialTLS(t *testing.T, addr string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// TestTLS: HTTP/1.1 and HTTP/2, and heads that come a byte at a time.
func TestTLS(t *testing.T) {
	seen := make(chan string, 1)
	addr := startTLS(t, t.TempDir(), acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- r.Header.Get("X-Forwarded-Proto") + " " + string(b)
		io.WriteString(w, "hello")
	})))
	for _, version := range []int{1, 2} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: version == 2}
		c := http.Client{Transport: tr, Timeout: 10 * time.Second}
		for range 3 {
			resp, err := c.Post("https://"+addr+"/x", "text/plain", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != "hello" || resp.ProtoMajor != version || <-seen != "https body" {
				t.Errorf("HTTP/%d: %s %q, %v", version, resp.Proto, b, err)
			}
		}
		tr.CloseIdleConnections()
	}
	c := dialTLS(t, addr)
	defer c.Close()
	answers := bufio.NewReader(c)
	for range 2 {
		for _, x := range []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n") {
			if _, err := c.Write([]byte{x}); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "hello" {
			t.Errorf("%q, %v", b, err)
		}
		<-seen
	}
}

// TestSlowHead: a head that comes a byte at a time over plain TCP, two requests at once.
func TestSlowHead(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, nil)))
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		for _, x := range []byte("GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", 5000) + "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n") {
			c.Write([]byte{x})
		}
	}()
	if b, err := io.ReadAll(c); err != nil || strings.Count(string(b), " 200 OK") != 2 {
		t.Errorf("%q, %v", b, err)
	}
}

// TestCertificateChanges: the next connection gets the new one; a pair that does not fit
// leaves the last in force.
func TestCertificateChanges(t *testing.T) {
	dir := t.TempDir()
	addr := startTLS(t, dir, acts(1, backend(t, 1, nil)))
	serial := func() int64 {
		c := dialTLS(t, addr)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Fatalf("serial %d", n)
	}
	until := func(want int64) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for serial() != want {
			if time.Now().After(deadline) {
				t.Fatalf("serial %d is not served", want)
			}
		}
	}
	certify(t, dir, 2)
	until(2)
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(lookInterval + lookInterval/2); time.Now().Before(end); {
		if n := serial(); n != 2 {
			t.Fatalf("serial %d with a key that is none", n)
		}
	}
	certify(t, dir, 3)
	until(3)
}
