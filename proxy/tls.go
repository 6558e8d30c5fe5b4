package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Secure makes a listener of l that speaks TLS with the certificate in two PEM files,
// and reads them again when they change. The files are read now: what is wrong with
// them is said at the start.
func Secure(l net.Listener, certFile, keyFile string) (net.Listener, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	return &tlsListener{Listener: l, config: &tls.Config{
		GetCertificate: c.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}}, nil
}

type tlsListener struct {
	net.Listener
	config *tls.Config
}

// Accept returns a connection whose handshake is still to come.
func (l *tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &tlsConn{tls.Server(c, l.config)}, nil
}

type tlsConn struct{ *tls.Conn }

// certificate is a pair of files, read again when one has changed.
type certificate struct {
	certFile, keyFile string

	mu     sync.Mutex
	pair   *tls.Certificate
	looked time.Time
	stamp  [2]time.Time
}

// lookInterval bounds how often the files are looked at.
const lookInterval = time.Second

// get returns the newest pair; a pair that does not fit, as in the middle of a change,
// leaves the last one in force.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pair != nil && time.Since(c.looked) < lookInterval {
		return c.pair, nil
	}
	c.looked = time.Now()
	var stamp [2]time.Time
	for i, f := range [2]string{c.certFile, c.keyFile} {
		if st, err := os.Stat(f); err == nil {
			stamp[i] = st.ModTime()
		}
	}
	if c.pair != nil && stamp == c.stamp {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	switch {
	case err == nil:
		c.pair, c.stamp = &pair, stamp
	case c.pair == nil:
		return nil, fmt.Errorf("read certificate %s and key %s: %w; give a PEM certificate and the key that belongs to it", c.certFile, c.keyFile, err)
	}
	return c.pair, nil
}

// handover is the listener of net/http's server: connections that speak HTTP/2 are put
// into it.
type handover struct {
	conns chan *handed
	done  chan struct{}
	once  sync.Once
}

// handed tells when the server has closed the connection.
type handed struct {
	*tls.Conn
	closed chan struct{}
	once   sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan *handed), done: make(chan struct{})}
}

// serve gives a connection to net/http and waits until it is closed.
func (h *handover) serve(ctx context.Context, c *tls.Conn) {
	defer c.Close()
	x := &handed{Conn: c, closed: make(chan struct{})}
	select {
	case h.conns <- x:
	case <-h.done:
		return
	}
	select {
	case <-x.closed:
	case <-ctx.Done():
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// Close tells who waits.
func (c *handed) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
