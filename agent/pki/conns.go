package pki

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"time"
)

// Limits of connections.
const (
	// MaxHandshakes is how many peers may be in their handshake with one listener. One
	// more, and the oldest is let go: those who mean it need milliseconds.
	MaxHandshakes = 64
	// handshakeTime is what a handshake may take: a round trip of the wan profile and
	// some lost packets.
	handshakeTime = 5 * time.Second
	// maxStrangers is how many connections without an identity are kept, of all
	// listeners together: there is nothing for them but to join.
	maxStrangers = 512
)

// Conns knows every connection that is up, and who is at its other end.
type Conns struct {
	mu        sync.Mutex
	up        map[*Conn]struct{}
	strangers []*Conn // oldest first
}

// NewConns returns an empty list.
func NewConns() *Conns { return &Conns{up: map[*Conn]struct{}{}} }

// Conn is the raw connection below TLS.
type Conn struct {
	net.Conn
	conns *Conns
	peer  Identity
	until time.Time // end of the peer's certificate
}

// Close takes the connection off the list.
func (c *Conn) Close() error {
	c.conns.forget(c)
	return c.Conn.Close()
}

func (c *Conns) forget(x *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.up, x)
	c.strangers = slices.DeleteFunc(c.strangers, func(s *Conn) bool { return s == x })
}

// add puts a connection on the list once its handshake is over.
func (c *Conns) add(x *Conn, t *tls.Conn) {
	cs := t.ConnectionState()
	peer, _ := PeerOf(&cs)
	c.mu.Lock()
	x.peer, x.until = peer, cs.PeerCertificates[0].NotAfter
	c.up[x] = struct{}{}
	var surplus *Conn
	if peer.Stranger() {
		c.strangers = append(c.strangers, x)
		if len(c.strangers) > maxStrangers {
			surplus = c.strangers[0]
		}
	}
	c.mu.Unlock()
	if surplus != nil {
		surplus.Close()
	}
}

// Recheck closes every connection whose peer check refuses now, or whose certificate
// has ended, and returns whose they were.
func (c *Conns) Recheck(check Check, now time.Time) []Identity {
	c.mu.Lock()
	var out []*Conn
	for x := range c.up {
		if !x.peer.Stranger() && (check(x.peer) != nil || now.After(x.until)) {
			out = append(out, x)
		}
	}
	c.mu.Unlock()
	var who []Identity
	for _, x := range out {
		x.Close() // the raw connection: TLS would wait for a peer that does not read
		if !slices.Contains(who, x.peer) {
			who = append(who, x.peer)
		}
	}
	return who
}

// Dial makes a connection to a node; handshake and all within the time of ctx. Where it
// fails nothing was sent, so the error is a net.OpError of a dial.
func (c *Conns) Dial(ctx context.Context, addr string, config *tls.Config) (*tls.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	x := &Conn{Conn: raw, conns: c}
	t := tls.Client(x, config)
	if err := t.HandshakeContext(ctx); err != nil {
		x.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: raw.RemoteAddr(), Err: err}
	}
	c.add(x, t)
	// The table may have changed between the check and add.
	if config.VerifyConnection != nil {
		if err := config.VerifyConnection(t.ConnectionState()); err != nil {
			x.Close()
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: raw.RemoteAddr(), Err: err}
		}
	}
	return t, nil
}
