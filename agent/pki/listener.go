package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"
)

// Listener yields connections that have shown who they are. Handshakes go on beside
// each other, so that a peer that says nothing keeps nobody waiting.
type Listener struct {
	net.Listener
	config *tls.Config
	conns  *Conns
	refuse func(from net.Addr, err error)

	ready chan *tls.Conn
	ended chan struct{}
	stop  context.CancelFunc
	err   error // why Accept ends

	mu      sync.Mutex
	pending []*Conn // oldest first
	wg      sync.WaitGroup
}

// Listen starts to take connections from l; Close ends that and l. refuse, where it is
// not nil, hears of each handshake that failed; it must not block.
func Listen(l net.Listener, config *tls.Config, conns *Conns, refuse func(from net.Addr, err error)) *Listener {
	ctx, stop := context.WithCancel(context.Background())
	out := &Listener{
		Listener: l, config: config, conns: conns, refuse: refuse, stop: stop,
		ready: make(chan *tls.Conn), ended: make(chan struct{}),
	}
	go out.take(ctx)
	return out
}

// acceptPause is the wait after a failed accept: out of file descriptors, mostly.
const acceptPause = 50 * time.Millisecond

func (l *Listener) take(ctx context.Context) {
	defer close(l.ended)
	defer l.wg.Wait()
	defer l.drop()
	for {
		raw, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			l.err = net.ErrClosed
			if err == nil {
				raw.Close()
			}
			return
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		c := &Conn{Conn: raw, conns: l.conns}
		l.begin(c)
		l.wg.Go(func() { l.shake(ctx, c) })
	}
}

// begin notes a handshake, and lets the oldest go where there are too many.
func (l *Listener) begin(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) >= MaxHandshakes {
		l.pending[0].Close()
		l.pending = l.pending[1:]
	}
	l.pending = append(l.pending, c)
}

func (l *Listener) done(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = slices.DeleteFunc(l.pending, func(p *Conn) bool { return p == c })
}

// drop ends every handshake.
func (l *Listener) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.pending {
		c.Close()
	}
}

func (l *Listener) shake(ctx context.Context, c *Conn) {
	t := tls.Server(c, l.config)
	limit, cancel := context.WithTimeout(ctx, handshakeTime)
	err := t.HandshakeContext(limit)
	cancel()
	l.done(c)
	if err == nil {
		l.conns.add(c, t, l.config)
		err = c.again() // the table may have changed just now
	}
	if err != nil {
		c.Close()
		if l.refuse != nil {
			l.refuse(c.RemoteAddr(), err)
		}
		return
	}
	select {
	case l.ready <- t:
	case <-ctx.Done():
		c.Close()
	}
}

// Accept returns the next connection whose handshake is over: a *tls.Conn.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ended:
		return nil, l.err
	}
}

// Close returns when no handshake is under way any more.
func (l *Listener) Close() error {
	l.stop()
	err := l.Listener.Close()
	<-l.ended
	return err
}
