package proxy

import (
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
)

// client is one connection of a client, served by one goroutine. While it waits for a
// request it holds no buffer.
type client struct {
	proxy  *Proxy
	ctx    context.Context // ends when the drain timeout is over
	conn   net.Conn
	raw    syscall.RawConn // nil over TLS
	fd     uintptr         // only within step
	origin origin
	w      *work  // nil while it waits
	ended  bool   // the connection has no further request
	final  []byte // what is written last; not nil: its end is waited for
	step   func(fd uintptr) bool

	clock
	place // in the registry
}

// work is what a request in progress needs: buffers, and its parsed heads.
type work struct {
	in   []byte // from the client; [r:w] has not been taken
	r, w int
	scan int // where to look on for the end of a head
	out  []byte
	back []byte // from the row; [br:bw] has not been taken
	br   int
	bw   int
	resp []byte
	req  request
	ans  answer
	trip trip

	chunks, upload chunkReader
}

const (
	inSizeStart = 4 << 10 // bytes: most heads with room; it grows to maxHead
	backSize    = 16 << 10
	keptBuffer  = 32 << 10 // a buffer that grew beyond is not kept
)

func newWork() any {
	return &work{in: make([]byte, inSizeStart), out: make([]byte, 0, inSizeStart), back: make([]byte, backSize), resp: make([]byte, 0, backSize)}
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
			p.metrics.refused[limitConns].Add(1)
			conn.Close()
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
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			c.raw = raw
		}
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
			http2.serve(ctx, secure.Conn)
			return
		}
	}
	c.serve()
	c.ended = true
	c.release()
	if c.final != nil {
		c.linger(c.final)
	}
	conn.Close()
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

// serve serves requests until the connection ends. Over plain TCP the loop runs inside
// the poller's wait: as long as reads leave nothing behind, none is made in vain.
func (c *client) serve() {
	c.idle()
	if c.raw == nil {
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
			c.release()
			return false
		case err != 0, n == 0:
			c.ended = true
			return true
		}
		w.w += n
		short := w.w < len(w.in)
		if c.advance() {
			return true
		}
		if short {
			c.release()
			return false
		}
	}
}

// readPlainly is ready for a connection that the poller does not show us.
func (c *client) readPlainly() {
	c.borrow()
	n, err := c.conn.Read(c.w.in[c.w.w:])
	c.w.w += n
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

// borrow sees that there is a buffer with room in it.
func (c *client) borrow() {
	if c.w == nil {
		c.w = c.proxy.works.Get().(*work)
	}
	w := c.w
	if w.w < len(w.in) {
		return
	}
	if w.r > 0 {
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
		return
	}
	in := make([]byte, 2*len(w.in))
	copy(in, w.in)
	w.in = in
}

// release gives the buffers back when nothing is in them.
func (c *client) release() {
	w := c.w
	if w == nil || w.r < w.w && !c.ended {
		return
	}
	c.w = nil
	w.r, w.w, w.scan, w.br, w.bw = 0, 0, 0, 0, 0
	if len(w.in) > keptBuffer || cap(w.out) > keptBuffer || cap(w.resp) > keptBuffer || len(w.back) > keptBuffer {
		return
	}
	w.trip = trip{tried: w.trip.tried[:0]}
	c.proxy.works.Put(w)
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
		case err == nil && end > maxHead:
			err = errHeadSize
		case err == nil && end == 0:
			err = tooLong(b)
		}
		if err == nil && end == 0 {
			if w.scan = next; c.phase != phaseHead {
				c.phase = phaseHead
				c.limit(c.proxy.cfg.HeadTimeout)
			}
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

// tooLong says what is wrong with a head that is not whole: its first line, or its size.
func tooLong(b []byte) error {
	var r request
	for i, x := range b[:min(len(b), maxTarget+64)] {
		if x == '\n' {
			if err := r.parseStart(b[:max(i-1, 0)]); err != nil {
				return err
			}
			if len(b) > maxHead {
				return errHeadSize
			}
			return nil
		}
	}
	if len(b) > maxTarget+64 {
		return errTargetSize
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
}

// interrupted is called when a wait for a request was ended from outside: its time is
// over, the node shuts down, or somebody only wants it to look again.
func (c *client) interrupted() {
	switch {
	case c.over():
		c.proxy.metrics.timeouts.Add(1)
		c.ended = true
		if c.phase == phaseHead && c.w != nil {
			c.reject(errHeadTime)
		}
	case c.draining() && c.phase == phaseIdle:
		c.ended = true
	default:
		c.lookAgain()
	}
}

// write writes to the client; within the poller's wait straight to the socket first.
func (c *client) write(b []byte) error {
	if c.fd != 0 {
		n, err := send(c.fd, b)
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

// reject answers a request that was not understood, and ends the connection: where it
// ends cannot be known.
func (c *client) reject(err error) {
	c.ended = true
	r := status(err)
	c.proxy.unrouted.answered(r.status, 0)
	c.final = r.append(nil, true)
}

// linger writes the last answer of a connection and waits a moment for the client to
// read it: closing over unread bytes would reset it.
func (c *client) linger(answer []byte) {
	c.untimed()
	if err := c.conn.SetDeadline(time.Now().Add(lingerTime)); err != nil {
		return
	}
	if c.write(answer) != nil {
		return
	}
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	var b [512]byte
	for n := 0; n < lingerBytes; {
		m, err := c.conn.Read(b[:])
		if err != nil {
			return
		}
		n += m
	}
}

const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
)

func (r *refusal) reason() string { return http.StatusText(r.status) }
