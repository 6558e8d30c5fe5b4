package pki

import (
	"context"
	"crypto/tls"
	"maps"
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
	again func() error // what let the peer in, asked anew
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
func (c *Conns) add(x *Conn, t *tls.Conn, config *tls.Config) {
	cs := t.ConnectionState()
	peer, _ := PeerOf(&cs)
	c.mu.Lock()
	x.peer, x.again = peer, func() error { return nil }
	if config.VerifyConnection != nil {
		x.again = func() error { return config.VerifyConnection(cs) }
	}
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

// Recheck closes every connection whose peer would not be let in now, because its
// certificate has ended or leads to no CA that is trusted any more, or whom check
// refuses, and returns whose they were.
func (c *Conns) Recheck(check Check) []Identity {
	c.mu.Lock()
	all := slices.Collect(maps.Keys(c.up))
	c.mu.Unlock()
	var who []Identity
	for _, x := range all {
		if x.peer.Stranger() || x.again() == nil && check(x.peer) == nil {
			continue
		}
		x.Close() // the raw connection: TLS would wait for a peer that does not read
		if !slices.Contains(who, x.peer) {
			who = append(who, x.peer)
		}
	}
	return who
}

// Up says whether a connection of a peer is up.
func (c *Conns) Up(who Identity) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for x := range c.up {
		if x.peer == who {
			return true
		}
	}
	return false
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
	c.add(x, t, config)
	if err := x.again(); err != nil { // the table may have changed between the check and add
		x.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: raw.RemoteAddr(), Err: err}
	}
	return t, nil
}
