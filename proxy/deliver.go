package proxy

import (
	"errors"
	"io"
	"os"
)

// answer reads the row's answer and writes it to the client.
func (c *client) answer(u *upstream, rc *rowConn, p *pump) outcome {
	w, a := c.w, &c.w.ans
	for {
		if err := c.readHead(rc); err != nil {
			return c.spoilt(rc, p, err)
		}
		if a.code >= 200 || a.code == 101 {
			break
		}
		if w.req.minor == 1 && (a.code != 100 || w.req.expect) {
			w.resp = a.append(w.resp[:0], &w.req, &w.trip, false)
			if c.write(w.resp) != nil {
				return c.spoilt(rc, p, errGone)
			}
		}
	}
	if a.code == 101 {
		if !w.req.upgrades() || !a.websock || !a.upgrade {
			return c.spoilt(rc, p, errBadAnswer)
		}
		return c.tunnel(rc)
	}
	none := a.bodiless(w.req.method)
	if have := int64(w.bw - w.br); none && have > 0 || !none && a.length >= 0 && have > a.length {
		return c.spoilt(rc, p, errBadAnswer) // more than it announced
	}
	t := &w.trip
	if a.code >= 500 && t.crashed(c.ctx, a.code, u) && safe(w.req.method) && p == nil && t.another(c.ctx) {
		c.letGo(rc, false)
		return outcome{again: true}
	}
	return c.deliver(rc, p, none)
}

// spoilt ends a try of which the client has seen nothing.
func (c *client) spoilt(rc *rowConn, p *pump, err error) outcome {
	if e := p.stop(rc); e != nil {
		err = e
	}
	c.letGo(rc, false)
	return outcome{err: err, sent: something}
}

// readHead reads and parses the next head of an answer.
func (c *client) readHead(rc *rowConn) error {
	w := c.w
	scan := 0
	for {
		end, next, err := scanHead(w.back[w.br:w.bw], scan)
		switch {
		case err != nil, end > maxHead, end == 0 && w.bw-w.br > maxHead:
			return errBadAnswer
		case end > 0:
			err = w.ans.parse(w.back[w.br : w.br+end])
			w.br += end
			return err
		}
		scan = next
		c.room()
		n, err := rc.Read(w.back[w.bw:])
		if err != nil {
			return c.rowError(err)
		}
		w.bw += n
	}
}

// room sees that something can be read from the row behind what is there.
func (c *client) room() {
	w := c.w
	if w.br > 0 {
		w.bw = copy(w.back, w.back[w.br:w.bw])
		w.br = 0
	}
	if w.bw == len(w.back) {
		back := make([]byte, 2*len(w.back))
		copy(back, w.back)
		w.back = back
	}
}

// deliver writes a final answer to the client. none says that it has no body.
func (c *client) deliver(rc *rowConn, p *pump, none bool) outcome {
	w, a, r := c.w, &c.w.ans, &c.w.req
	p.hear()
	o := outcome{code: a.code, sent: something, answered: true}
	end := !r.keepAlive() || c.draining() || !p.taken() || !none && a.length < 0 && r.minor == 0
	w.resp = a.append(w.resp[:0], r, &w.trip, end)
	keep := a.reusable()
	c.awaitClient()
	switch {
	case none:
		c.farewell = end
		o.err = c.flush()
	case a.chunked:
		w.chunks.reset()
		if c.decodeChunks() != nil || w.chunks.done() && w.br < w.bw {
			return c.spoilt(rc, p, errBadAnswer) // the client has seen nothing of it yet
		}
		o.err = c.copyChunked(rc)
	case a.length >= 0:
		c.farewell = end && a.length == int64(w.bw-w.br)
		o.err = c.copyLength(rc, a.length)
	default:
		o.err = c.copyRest(rc)
		keep = false
	}
	c.breaks(o.err)
	w.trip.answered = w.trip.row
	c.broken = o.err != nil && !none && a.length < 0 && r.minor == 0
	if p != nil && !p.taken() {
		keep = false
		c.final = []byte{} // its body is not read: see that it gets the answer
	}
	if e := p.stop(rc); e != nil || p.cut() {
		keep = false
	}
	c.ended = c.ended || end
	if end && o.err == nil && c.final == nil && (r.keepAlive() || w.r < w.w) {
		c.final = []byte{} // there may be more to come: a close over it would drop what is on its way
	}
	c.letGo(rc, keep && o.err == nil && w.br == w.bw)
	return o
}

// breaks counts the limit that an answer broke off for.
func (c *client) breaks(err error) {
	switch {
	case errors.Is(err, errSlow):
		c.proxy.metrics.met(limitQuiet)
	case errors.Is(err, errGone) && c.over():
		c.proxy.metrics.met(limitBodyTime)
	}
}

// flush writes what has been gathered for the client.
func (c *client) flush() error {
	b := c.w.resp
	c.w.resp = b[:0]
	if len(b) == 0 {
		return nil
	}
	if err := c.write(b); err != nil {
		return errGone
	}
	return nil
}

// awaitRow begins a wait for more of an answer.
func (c *client) awaitRow() {
	c.limit(c.proxy.cfg.QuietTimeout)
	c.askSoon()
}

// awaitClient begins a wait for the client to take what has come.
func (c *client) awaitClient() {
	c.quiet.Store(0)
	c.limit(c.proxy.cfg.BodyTimeout)
}

// more reads from the row into the buffer.
func (c *client) more(rc *rowConn) error {
	w := c.w
	c.awaitRow()
	for {
		n, err := rc.Read(w.back[w.bw:])
		w.bw += n
		if n > 0 {
			c.awaitClient()
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyLength copies a body whose length is known.
func (c *client) copyLength(rc *rowConn, left int64) error {
	w := c.w
	w.resp = append(w.resp, w.back[w.br:w.bw]...)
	left -= int64(w.bw - w.br)
	w.br, w.bw = 0, 0
	if err := c.flush(); err != nil || left == 0 {
		return err
	}
	if c.raw != nil && left >= spliceFrom {
		s := c.proxy.pipes.get()
		if s != nil {
			defer c.proxy.pipes.put(s)
			return c.spliceAnswer(s, rc, left)
		}
	}
	for left > 0 {
		w.br, w.bw = 0, 0
		if err := c.more(rc); err != nil {
			return c.rowError(err)
		}
		if left -= int64(w.bw); left < 0 {
			return errBadAnswer
		}
		if c.write(w.back[:w.bw]) != nil {
			return errGone
		}
	}
	w.br, w.bw = 0, 0
	return nil
}

// spliceAnswer moves the rest of a body from the row to the client inside the kernel.
func (c *client) spliceAnswer(s *splicer, rc *rowConn, left int64) error {
	s.went = c.awaitClient // slow is not idle
	for left > 0 {
		c.awaitRow()
		n, err := s.in(rc.raw, left)
		if err != nil {
			return c.rowError(err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		c.awaitClient()
		if s.drainTo(c.raw) != nil {
			return errGone
		}
		left -= int64(n)
	}
	return nil
}

// copyRest copies a body that ends with the row's connection.
func (c *client) copyRest(rc *rowConn) error {
	w := c.w
	for {
		if w.br < w.bw {
			c.appendPiece(w.back[w.br:w.bw])
		}
		w.br, w.bw = 0, 0
		if err := c.flush(); err != nil {
			return err
		}
		if err := c.more(rc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return c.rowError(err)
		}
	}
	if w.req.minor == 1 {
		w.resp = append(w.resp, "0\r\n\r\n"...)
	}
	return c.flush()
}

// appendPiece adds a piece of a body of unknown length: as a chunk, for who knows them.
func (c *client) appendPiece(piece []byte) {
	w := c.w
	if w.req.minor == 0 {
		w.resp = append(w.resp, piece...)
		return
	}
	w.resp = appendChunk(w.resp, piece)
}

func appendChunk(b, piece []byte) []byte {
	b = appendHex(b, uint64(len(piece)))
	b = append(b, "\r\n"...)
	b = append(b, piece...)
	return append(b, "\r\n"...)
}

// decodeChunks decodes what has come of a chunked body, and encodes it anew.
func (c *client) decodeChunks() error {
	w := c.w
	for w.br < w.bw {
		piece, n, _, err := w.chunks.next(w.back[w.br:w.bw])
		if err != nil {
			return errBadAnswer
		}
		if len(piece) > 0 {
			c.appendPiece(piece)
		}
		if w.br += n; n == 0 || w.chunks.done() {
			break
		}
	}
	return nil
}

// copyChunked copies the rest of a chunked body, a read at a time.
func (c *client) copyChunked(rc *rowConn) error {
	for !c.w.chunks.done() {
		if err := c.flush(); err != nil {
			return err
		}
		c.room()
		if err := c.more(rc); err != nil {
			return c.rowError(err)
		}
		if err := c.decodeChunks(); err != nil {
			return err
		}
	}
	return c.endChunks()
}

func (c *client) endChunks() error {
	w := c.w
	if w.req.minor == 1 {
		w.resp = append(w.resp, "0\r\n"...)
		if w.req.trailers {
			w.resp = append(w.resp, w.chunks.trailers...)
		}
		w.resp = append(w.resp, "\r\n"...)
	}
	return c.flush()
}

// tunnel carries a WebSocket until both sides have ended it.
func (c *client) tunnel(rc *rowConn) outcome {
	w := c.w
	o := outcome{code: 101, answered: true, sent: something}
	w.trip.answered = w.trip.row
	c.ended = true
	defer c.letGo(rc, false)
	w.resp = append(w.ans.append(w.resp[:0], &w.req, &w.trip, false), w.back[w.br:w.bw]...)
	if o.err = c.flush(); o.err != nil {
		return o
	}
	if _, o.err = rc.Write(w.in[w.r:w.w]); o.err != nil {
		return o
	}
	w.r, w.w = 0, 0
	c.limit(0)
	c.quiet.Store(0) // who has closed one side may still hear
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer c.guard(rc)
		_, err := io.Copy(c.conn, rc.TCPConn)
		if half, ok := c.conn.(interface{ CloseWrite() error }); err == nil && ok && half.CloseWrite() == nil {
			return
		}
		c.conn.Close() // the other direction ends too
	}()
	for {
		_, err := io.Copy(rc.TCPConn, c.conn)
		if errors.Is(err, os.ErrDeadlineExceeded) && c.ctx.Err() == nil {
			c.lookAgain() // the node drains: what is open may end by itself
			continue
		}
		if err != nil || rc.CloseWrite() != nil {
			rc.Close()
		}
		break
	}
	<-back
	return o
}
