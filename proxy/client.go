package proxy

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// client is one connection of a client, served by one goroutine. While it waits for a
// request it holds no buffer.
type client struct {
	proxy    *Proxy
	ctx      context.Context // ends when the drain timeout is over
	conn     net.Conn
	sock     syscall.RawConn // of the TCP connection
	raw      syscall.RawConn // the same; nil over TLS
	fd       uintptr         // only within step
	origin   origin
	w        *work  // nil while it waits
	begun    []byte // the beginning of a head, while the rest is waited for
	small    []byte // the work's own buffer, where begun took the place of a grown one
	scan     int    // where to look on for its end
	ended    bool   // the connection has no further request
	broken   bool   // the answer came to no end, and only a reset tells the client
	farewell bool   // what is written next is the last, and the end follows at once
	final    []byte // what is written last; not nil: its end is waited for
	step     func(fd uintptr) bool
	first    []byte // what a read over TLS brings

	clock
	place // in the registry
}

// accept serves the connections of a listener until it is closed. Those that speak
// HTTP/2 are handed over.
func (p *Proxy) accept(ctx, cut context.Context, l net.Listener, http2 *handover) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			p.cfg.Logger.Warn("a connection was not accepted", "reason", err)
			select { // out of descriptors: some will end
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		p.metrics.accepted.Add(1)
		if int(p.metrics.conns.Add(1)) > p.cfg.MaxConns {
			p.metrics.conns.Add(-1)
			p.metrics.met(limitConns)
			turnAway(conn)
			continue
		}
		serving.Go(func() {
			defer p.metrics.conns.Add(-1)
			p.converse(cut, conn, http2)
		})
	}
}

// acceptPause is the wait after a failed accept.
const acceptPause = 20 * time.Millisecond

// converse serves one connection to its end.
func (p *Proxy) converse(ctx context.Context, conn net.Conn, http2 *handover) {
	c := &client{proxy: p, ctx: ctx, conn: conn}
	peer, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	secure, ok := conn.(*tlsConn)
	c.origin = p.origin(peer.Addr().Unmap(), ok)
	if secure != nil {
		c.sock = sock(secure.under.Conn)
	} else {
		c.sock = sock(conn)
		c.raw = c.sock
	}
	p.clients.add(c)
	defer p.clients.remove(c)
	defer c.rescue()
	if ok {
		c.limit(p.cfg.HeadTimeout)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return
		}
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			c.limit(0)
			c.away.Store(true)
			c.lookAgain()
			http2.serve(ctx, secure)
			return
		}
	}
	c.serve()
	c.ended = true
	c.release()
	if c.broken {
		c.reset()
	} else if c.final != nil {
		c.linger(c.final)
	} else if tcp, ok := conn.(*net.TCPConn); ok && c.farewell {
		tcp.CloseWrite() // sends what was held back, which a close over unread bytes would drop
	}
	conn.Close()
}

// sock is the socket of a connection; nil where it has none.
func sock(conn net.Conn) syscall.RawConn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil // it is closed, as whoever reads it will see
	}
	return raw
}

// rescue keeps a fault in the handling of one connection from ending the node.
func (c *client) rescue() {
	if r := recover(); r != nil {
		c.conn.Close()
		if c.w != nil {
			c.w.trip.settle()
		}
		c.proxy.cfg.Logger.Error("a connection was given up", "reason", r, "stack", string(debug.Stack()))
	}
}

// guard is rescue for what is done beside the connection's own goroutine: the row's
// connection ends, and with it the request.
func (c *client) guard(rc *rowConn) {
	if r := recover(); r != nil {
		rc.Close()
		c.interrupt()
		c.proxy.cfg.Logger.Error("a request was given up", "reason", r, "stack", string(debug.Stack()))
	}
}

// serve serves requests until the connection ends. Over plain TCP the loop runs inside
// the poller's wait: as long as reads leave nothing behind, none is made in vain.
func (c *client) serve() {
	c.idle()
	if c.raw == nil {
		c.first = make([]byte, firstSize)
		for !c.ended {
			c.readPlainly()
		}
		return
	}
	c.step = c.ready
	for !c.ended {
		err := c.raw.Read(c.step)
		c.fd = 0
		switch {
		case err == nil:
			c.settleStep()
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.interrupted()
		default:
			return
		}
	}
}

// ready is called by the poller when there may be something to read. It returns true
// when the request at hand needs the connection itself, or there is none to come.
func (c *client) ready(fd uintptr) bool {
	c.fd = fd
	for {
		c.borrow()
		w := c.w
		n, err := recv(fd, w.in[w.w:], 0)
		switch {
		case err == syscall.EAGAIN:
			c.look.Store(0) // nothing waits, no end either
			c.release()
			return false
		case err != 0, n == 0:
			c.ended = true
			return true
		}
		w.w += n
		short := w.w < len(w.in)
		if c.advance() || c.ended {
			return true
		}
		if short {
			c.release()
			return false
		}
	}
}

// readPlainly is ready for a connection that the poller does not show us. It waits for
// a request, or for what is missing of its head, with the smallest of buffers.
func (c *client) readPlainly() {
	n, err := c.conn.Read(c.first)
	for b := c.first[:n]; len(b) > 0; {
		c.borrow()
		m := copy(c.w.in[c.w.w:], b)
		c.w.w += m
		b = b[m:]
	}
	if n > 0 && c.advance() {
		c.settleStep()
	}
	if err != nil && !c.ended {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.ended = true
			return
		}
		c.interrupted()
	}
	c.release()
}

// advance serves the requests that are whole in the buffer. It returns true when the
// next one needs the connection for its body, or the connection has no other.
func (c *client) advance() bool {
	w := c.w
	for w.r < w.w {
		if w.scan == 0 && w.w-w.r >= 2 && w.in[w.r] == '\r' && w.in[w.r+1] == '\n' {
			w.r += 2 // an empty line before a request (RFC 9112, 2.2)
			continue
		}
		b := w.in[w.r:w.w]
		end, next, err := scanHead(b, w.scan)
		switch {
		case err == nil && (end == 0 || end > c.proxy.bounds.head):
			err = tooLong(b, w.scan, &c.proxy.bounds)
		}
		if err == nil && end == 0 {
			if w.scan = next; c.phase != phaseHead {
				c.phase = phaseHead
				c.limit(c.proxy.cfg.HeadTimeout)
			}
			c.lookSoon()
			return false
		}
		w.scan = 0
		if err == nil {
			err = w.req.parse(b[:max(end, 0)], c.origin.scheme == "https")
		}
		if err != nil {
			c.reject(err)
			return true
		}
		w.r += end
		if w.req.chunked || w.req.length > int64(w.w-w.r) || w.req.upgrades() {
			return true
		}
		c.request(false)
		if c.ended {
			return true
		}
	}
	w.r, w.w = 0, 0
	c.idle()
	return false
}

// tooLong says what is wrong with a head that is not whole, or too large: its first
// line, or its size. What is before seen has been looked at.
func tooLong(b []byte, seen int, most *bounds) error {
	if seen == 0 {
		const rest = 64 // of the line: a method, and the version
		line := bytes.IndexByte(b[:min(len(b), most.target+rest)], '\n')
		if line < 0 && len(b) > most.target+rest {
			return errTargetSize
		}
		if line >= 0 {
			var r request
			r.bounds = most
			if err := r.parseStart(b[:max(line-1, 0)]); err != nil {
				return err
			}
		}
	}
	if len(b) > most.head {
		return errHeadSize
	}
	return nil
}

// settleStep goes on where the poller's wait could not: with a request that has a body
// to be streamed.
func (c *client) settleStep() {
	for !c.ended && c.w != nil {
		c.request(true)
		if c.ended || !c.advance() {
			break
		}
	}
	c.release()
}

// idle begins the wait for the next request.
func (c *client) idle() {
	if c.draining() {
		c.ended = true
		return
	}
	c.phase = phaseIdle
	c.limit(c.proxy.cfg.IdleTimeout)
	c.lookSoon()
}

// interrupted is called when a wait for a request was ended from outside: its time is
// over, the node shuts down, or somebody only wants it to look again.
func (c *client) interrupted() {
	switch {
	case c.over():
		c.ended = true
		if c.phase == phaseHead {
			c.reject(errHeadTime)
		} else {
			c.proxy.metrics.met(limitIdle)
		}
	case c.draining() && c.phase == phaseIdle:
		c.ended = true
	default:
		c.lookAgain()
		if c.draining() && c.phase == phaseIdle { // it may have been said just before
			c.ended = true
		}
	}
}

// write writes to the client; within the poller's wait straight to the socket first.
func (c *client) write(b []byte) error {
	if c.fd != 0 {
		flags := uintptr(0)
		if c.farewell {
			flags = unix.MSG_MORE // leaves with the end of the stream, in one segment
		}
		n, err := send(c.fd, b, flags)
		if n == len(b) {
			return nil
		}
		if err != 0 && err != syscall.EAGAIN {
			return err
		}
		b = b[n:]
	}
	_, err := c.conn.Write(b)
	return err
}

func (r *refusal) reason() string { return http.StatusText(r.status) }
