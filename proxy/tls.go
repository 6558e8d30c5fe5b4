package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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

// Listen opens a public port. What every connection of it needs of the kernel is set on
// the listener, from which connections inherit it: that spares system calls for each.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	c := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if cerr := raw.Control(func(fd uintptr) { err = keepAlive(int(fd)) }); cerr != nil {
			return cerr
		}
		return err
	}}
	return c.Listen(ctx, "tcp", addr)
}

// keepAlive makes the kernel ask after peers that are silent: one that has vanished is
// found after 15 + 9 × 15 s.
func keepAlive(fd int) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9),
	)
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
	under := &noted{Conn: c, closed: make(chan struct{})}
	return &tlsConn{tls.Server(under, l.config), under}, nil
}

type tlsConn struct {
	*tls.Conn
	under *noted
}

// noted is a connection that tells when it has been closed.
type noted struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
}

// Close implements net.Conn.
func (c *noted) Close() error {
	defer c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// turnAway closes a connection that is one too many, and says so where that costs nothing.
func turnAway(conn net.Conn) {
	if raw := sock(conn); raw != nil {
		full := errFull.append(nil, nil, true)
		if err := raw.Control(func(fd uintptr) { send(fd, full, 0) }); err == nil {
			conn.(*net.TCPConn).CloseWrite() // the close follows at once
		}
	}
	conn.Close()
}

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
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover() *handover {
	return &handover{conns: make(chan net.Conn), done: make(chan struct{})}
}

// serve gives a connection to net/http and waits until it is closed. It returns false, and
// leaves the connection as it is, where net/http takes no other.
func (h *handover) serve(ctx context.Context, c *tlsConn) bool {
	select {
	case h.conns <- c.Conn: // the server knows HTTP/2 by this type alone
	case <-h.done:
		return false
	}
	defer c.Close()
	select {
	case <-c.under.closed:
	case <-ctx.Done():
	}
	return true
}

// goAway are the frames that tell a client of HTTP/2 that none of its requests was taken,
// so that it may send them elsewhere (RFC 9113, 6.8): empty settings, and a GOAWAY.
const goAway = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

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
