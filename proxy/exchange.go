package proxy

import (
	"errors"
	"io"
	"os"
	"time"
)

// request serves the request that has been parsed. streaming says that its body is not
// whole in the buffer, or that the connection is to be given over.
func (c *client) request(streaming bool) {
	w := c.w
	t := &w.trip
	c.look.Store(0)
	c.quiet.Store(0)
	c.phase = phaseRow
	if !c.limit(0) { // the time of what was before; a request that came in time has its own
		c.untimed()
	}
	err := t.begin(c.proxy, w.req.method, w.req.path, time.Now())
	if err == nil {
		err = c.admit()
	}
	if err != nil {
		if !streaming && w.req.length > 0 {
			w.r += int(w.req.length)
		}
		c.refuse(err, streaming || !w.req.keepAlive())
		c.finish(status(err).status)
		return
	}
	w.out = w.req.append(w.out[:0], &c.origin)
	var p *pump
	if !streaming {
		if n := int(w.req.length); n > 0 {
			w.out = append(w.out, w.in[w.r:w.r+n]...)
			w.r += n
		}
	} else if !w.req.upgrades() {
		p = newPump(c)
	}
	c.finish(c.send(p))
}

// finish counts the request that has been answered with code.
func (c *client) finish(code int) {
	w := c.w
	w.trip.settle()
	c.quiet.Store(0)
	c.proxy.settled(&w.trip, code, w.req.method, text(w.req.target), c.origin.ip, text(w.req.id))
	if len(w.out) > keptBuffer {
		w.out = make([]byte, 0, inSizeStart)
	}
}

// admit checks a request against its service.
func (c *client) admit() error {
	if most := c.w.trip.service.MaxBody; most > 0 && c.w.req.length > most {
		return errTooLarge
	}
	return nil
}

// refuse answers with err. end says that the connection cannot go on.
func (c *client) refuse(err error, end bool) {
	if errors.Is(err, errGone) {
		c.ended = true
		return
	}
	r := status(err)
	c.proxy.metrics.met(r.limit)
	end = end || c.draining() || c.over()
	if end {
		c.ended = true
		c.final = r.append(nil, &c.w.req, true)
		return
	}
	c.limit(c.proxy.cfg.BodyTimeout)
	if c.write(r.append(c.w.resp[:0], &c.w.req, false)) != nil {
		c.ended = true
	}
}

// send sends the request to the row whose turn it is, and to the next ones where that
// is safe; it returns the status that the client got.
func (c *client) send(p *pump) int {
	t := &c.w.trip
	var last error
	for {
		if err := t.next(c.ctx, last); err != nil {
			c.refuse(err, p != nil || !c.w.req.keepAlive())
			return status(err).status
		}
		u := t.row
		o := c.try(u, p)
		if o.err == nil && !o.again {
			return o.code
		}
		if o.answered {
			c.ended = true // it has half an answer: no other can follow
			return o.code
		}
		if o.again {
			t.settle()
			c.proxy.metrics.retries.Add(1)
			last = errUnreached
			continue
		}
		last = o.err
		if !t.failed(u, o.err, o.sent, !p.begun()) {
			c.refuse(o.err, p != nil || !c.w.req.keepAlive())
			return status(o.err).status
		}
	}
}

// outcome is how one try went.
type outcome struct {
	code     int   // of the answer
	err      error // none came to an end
	sent     sent
	answered bool // part of the answer has been written
	again    bool // the row has crashed and another may answer
}

// try sends the request to one row and its answer to the client.
func (c *client) try(u *upstream, p *pump) outcome {
	for rc := u.idle.get(); ; rc = nil {
		if rc == nil {
			var err error
			if rc, err = c.proxy.dial(c.ctx, u.Addr); err != nil {
				if c.ctx.Err() != nil { // the node ends; that is no fault of the row
					err = errGone
				}
				return outcome{err: err, sent: nothing}
			}
		}
		stale := !rc.fresh
		c.waitFor(rc)
		o, silent := c.converse(u, rc, p)
		// An idle connection that the row closed just now says nothing about the
		// row: a new one does.
		if stale && silent && !p.begun() && (errors.Is(o.err, errStale) || idempotent(c.w.req.method) && !errors.Is(o.err, errSlow) && !errors.Is(o.err, errGone)) {
			c.letGo(rc, false)
			if !errors.Is(o.err, errStale) { // it may have had it
				c.proxy.metrics.retries.Add(1)
			}
			continue
		}
		return o
	}
}

// letGo gives the row's connection back, or closes it.
func (c *client) letGo(rc *rowConn, keep bool) {
	if !c.waitFor(nil) || !keep {
		rc.Close()
		return
	}
	rc.fresh = false
	rc.used = c.proxy.clients.now.Load()
	if !c.w.trip.row.idle.put(rc) {
		rc.Close()
	}
}

// converse speaks with the row over rc. silent says that it answered nothing at all.
func (c *client) converse(u *upstream, rc *rowConn, p *pump) (o outcome, silent bool) {
	w := c.w
	w.br, w.bw = 0, 0
	var n int
	var err error
	if p == nil {
		c.limit(w.trip.patience())
		c.askSoon()
		n, err = rc.roundTrip(w.out, w.back)
	} else if !rc.fresh && !rc.clean() {
		err = errStale
	} else if rc.wrote, err = c.sendHead(rc); err == nil {
		p.start(rc)
		n, err = rc.Read(w.back)
	}
	w.bw = n
	if err != nil {
		o := outcome{err: c.rowError(err), sent: something}
		if errors.Is(err, errStale) || rc.wrote == 0 && u.Direct {
			o.sent = nothing
		}
		if e := p.stop(rc); e != nil {
			o.err = e
		}
		if !errors.Is(err, errStale) || rc.fresh {
			c.letGo(rc, false)
		}
		return o, true
	}
	o = c.answer(u, rc, p)
	return o, false
}

// sendHead sends a head whose body is streamed.
func (c *client) sendHead(rc *rowConn) (int, error) {
	c.limit(c.proxy.cfg.BodyTimeout)
	return rc.Write(c.w.out)
}

// rowError is what an error of the row's connection means.
func (c *client) rowError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		switch {
		case c.over():
			return errSlow
		case c.left.Load():
			c.proxy.metrics.met(limitGone)
			return errGone
		}
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
