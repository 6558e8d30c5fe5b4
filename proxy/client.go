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
	"syscall"

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
	c.shaking.Store(ok)
	p.clients.add(c)
	defer p.clients.remove(c)
	defer c.rescue()
	if ok && !c.shake(secure, http2) {
		return
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

// shake makes the handshake of a connection over TLS. It returns false where it has been
// closed since: the handshake failed, or net/http served the connection.
func (c *client) shake(secure *tlsConn, http2 *handover) bool {
	c.limit(c.proxy.cfg.HeadTimeout)
	if c.draining() {
		c.hurry()
	}
	err := secure.HandshakeContext(c.ctx)
	c.shaking.Store(false)
	if err != nil {
		if c.over() && !c.draining() {
			c.proxy.metrics.met(limitHeadTime)
		}
		secure.Close()
		return false
	}
	if secure.ConnectionState().NegotiatedProtocol != "h2" {
		return true
	}
	c.limit(0)
	c.away.Store(true)
	c.lookAgain()
	if http2.serve(c.ctx, secure) {
		return false
	}
	c.ended, c.final = true, []byte(goAway)
	return true
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
			if !c.draining() { // then it is the look that ends it
				c.look.Store(0) // nothing waits, no end either
			}
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
	if c.phase == phaseRow {
		c.idle()
	} else { // an empty line is no request: the wait for one goes on, and so does its limit
		c.lookSoon()
	}
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
	c.phase = phaseIdle
	c.limit(c.proxy.cfg.IdleTimeout)
	c.lookSoon()
}

// interrupted is called when a wait for a request was ended from outside: its time is
// over, the node shuts down, or somebody only wants it to look again. What has come by
// then is a request like any other: a close over it would reset it, unread.
func (c *client) interrupted() {
	over := c.over()
	if over && c.phase == phaseHead {
		c.ended = true
		c.reject(errHeadTime)
		return
	}
	if !over {
		c.lookAgain()
		if !c.mayGo() {
			return
		}
	}
	switch {
	case c.ctx.Err() == nil && c.came():
		if over {
			c.untimed()
			c.limit(c.proxy.cfg.HeadTimeout)
		}
	case over && !c.draining():
		c.ended = true
		c.proxy.metrics.met(limitIdle)
	default:
		c.ended = true
		c.farewell = true // what comes from now on meets the end of the stream, not a reset
	}
}

// mayGo says whether a connection that waits for a request may end because the node does.
// Who was answered, or accepted, just now has a request on its way perhaps, and is looked
// at again.
func (c *client) mayGo() bool {
	if !c.draining() || c.phase != phaseIdle {
		return false
	}
	since := c.due.Load() - c.proxy.cfg.IdleTimeout.Milliseconds()
	until := since + lastCall.Milliseconds()
	if c.proxy.clients.now.Load() >= until {
		return true
	}
	c.look.Store(until)
	return false
}

// lastCall is how long the end of a node waits for a request on a connection that has
// just been used: longer than most ways there and back.
const lastCall = 2 * sweepInterval

// came says whether something of the client's waits to be read, or the end of its side.
func (c *client) came() bool { return c.sock != nil && !nothingWaits(c.sock) }

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
