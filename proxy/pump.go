package proxy

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// pump sends the body of a request to a row while the answer is read: a row may answer
// before it has read everything, and both may stream. A nil pump is a request whose body
// went with its head.
type pump struct {
	c        *client
	rc       *rowConn
	began    time.Time
	total    int64
	done     chan struct{} // nil until it is started
	err      error         // set before done is closed
	stopping atomic.Bool
	consumed atomic.Bool // all of the body has been read

	mu    sync.Mutex
	heard bool // the row has begun to answer: the time is the answer's from here on
}

var errStopped = errors.New("the rest of the body is of no use")

const copySize = 32 << 10 // bytes of a read of a body

func newPump(c *client) *pump { return &pump{c: c} }

// begun says whether part of the body may be gone.
func (p *pump) begun() bool { return p != nil && p.done != nil }

// taken says whether the body has been read to its end.
func (p *pump) taken() bool { return p == nil || p.consumed.Load() }

func (p *pump) start(rc *rowConn) {
	p.rc, p.began, p.done = rc, time.Now(), make(chan struct{})
	p.limit(p.c.proxy.cfg.BodyTimeout)
	go p.run()
}

// limit gives what begins now d to end, as long as the row has not begun to answer; it
// returns false once it has.
func (p *pump) limit(d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.heard {
		p.c.limit(d)
	}
	return !p.heard
}

// hear ends the pump's say over the time.
func (p *pump) hear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = true
}

// stop ends the pump, and the row's connection where the row does not take what is left,
// and returns what was wrong with the body, if anything was.
func (p *pump) stop(rc *rowConn) error {
	if !p.begun() {
		return nil
	}
	if !p.ends() {
		p.stopping.Store(true)
		rc.Close()
		if !p.consumed.Load() {
			p.c.interrupt()
		}
	}
	<-p.done
	var r *refusal
	if errors.As(p.err, &r) || errors.Is(p.err, errGone) {
		return p.err
	}
	return nil
}

// ends says whether the pump ends by itself, which is when the row takes the last of a
// body that has been read to its end. A row that answers has done so, as a rule, but for
// the pump to notice.
func (p *pump) ends() bool {
	if !p.consumed.Load() {
		return false
	}
	select {
	case <-p.done:
		return true
	default:
	}
	moment := time.NewTimer(sendRest)
	defer moment.Stop()
	select {
	case <-p.done:
		return true
	case <-moment.C:
		return false
	}
}

// sendRest is how long a pump may take to notice that it has ended: a few slices of a busy
// processor.
const sendRest = 10 * time.Millisecond

// cut says whether stop has closed the row's connection.
func (p *pump) cut() bool { return p != nil && p.stopping.Load() }

func (p *pump) run() {
	defer close(p.done)
	defer p.c.guard(p.rc)
	r := &p.c.w.req
	if r.chunked {
		p.err = p.chunked()
	} else {
		p.err = p.counted(r.length)
	}
	if p.err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.heard { // from here on the row is waited for
			p.c.w.trip.uploaded()
			p.c.limit(p.c.w.trip.service.Timeout)
			p.c.askSoon()
		}
		return
	}
	var refused *refusal
	if errors.As(p.err, &refused) || errors.Is(p.err, errGone) {
		p.rc.Close() // wakes who waits for the answer
	}
}

// counted sends a body whose length is known.
func (p *pump) counted(left int64) error {
	c, w := p.c, p.c.w
	if n := int(min(left, int64(w.w-w.r))); n > 0 {
		piece := w.in[w.r : w.r+n]
		w.r += n
		left -= int64(n)
		if err := p.send(piece, left == 0); err != nil {
			return err
		}
	}
	if c.raw != nil && left >= spliceFrom {
		if s := c.proxy.pipes.get(); s != nil {
			defer c.proxy.pipes.put(s)
			return p.splice(s, left)
		}
	}
	buf := p.c.proxy.buffers.Get().(*[copySize]byte)
	defer p.c.proxy.buffers.Put(buf)
	for left > 0 {
		n, err := p.read(buf[:min(left, int64(len(buf)))])
		if err != nil {
			return err
		}
		left -= int64(n)
		if err := p.send(buf[:n], left == 0); err != nil {
			return err
		}
	}
	p.consumed.Store(true)
	return nil
}

// splice moves the rest of the body inside the kernel.
func (p *pump) splice(s *splicer, left int64) error {
	for left > 0 {
		n, err := s.in(p.c.raw, left)
		if err != nil {
			if err = p.readError(err); err != nil {
				return err
			}
			continue
		}
		if n == 0 {
			return errBodyEnd
		}
		left -= int64(n)
		if left == 0 {
			p.consumed.Store(true)
		}
		if err := p.progress(n); err != nil {
			return err
		}
		if err := s.drainTo(p.rc.raw); err != nil {
			return err
		}
	}
	return nil
}

// chunked decodes a chunked body and encodes it anew.
func (p *pump) chunked() error {
	w := p.c.w
	limit := w.trip.service.MaxBody
	buf := p.c.proxy.buffers.Get().(*[copySize]byte)
	defer p.c.proxy.buffers.Put(buf)
	var out []byte
	w.upload.reset()
	have := 0
	for {
		early := w.r < w.w // it came together with the head
		n, err := p.readOn(buf[have:])
		if err != nil {
			return err
		}
		have += n
		at := 0
		for at < have {
			piece, n, done, err := w.upload.next(buf[at:have])
			if err != nil {
				return err
			}
			p.total += int64(len(piece))
			if limit > 0 && p.total > limit {
				return errTooLarge
			}
			if len(piece) > 0 {
				out = appendChunk(out, piece)
			}
			at += n
			if done {
				p.putBack(buf[at:have], early)
				out = append(out, "0\r\n"...)
				out = append(out, w.upload.trailers...)
				return p.send(append(out, "\r\n"...), true)
			}
			if n == 0 {
				break
			}
		}
		if len(out) > 0 {
			if err := p.send(out, false); err != nil {
				return err
			}
			out = out[:0]
		}
		have = copy(buf[:], buf[at:have])
	}
}

// putBack leaves what belongs to the next request in the client's buffer. early says
// that it comes from there.
func (p *pump) putBack(b []byte, early bool) {
	w := p.c.w
	if early {
		w.r -= len(b)
		return
	}
	if len(b) > len(w.in)-w.w {
		in := make([]byte, w.w+len(b))
		copy(in, w.in[:w.w])
		w.in = in
	}
	w.r = w.w
	w.w += copy(w.in[w.w:], b)
}

// send writes a piece to the row. last says that no more is to be read.
func (p *pump) send(b []byte, last bool) error {
	if last {
		p.consumed.Store(true)
	}
	if err := p.progress(len(b)); err != nil {
		return err
	}
	_, err := p.rc.Write(b)
	return err
}

// readOn reads what came together with the head, then from the connection.
func (p *pump) readOn(b []byte) (int, error) {
	w := p.c.w
	if w.r == w.w {
		return p.read(b)
	}
	n := copy(b, w.in[w.r:w.w])
	w.r += n
	return n, nil
}

func (p *pump) read(b []byte) (int, error) {
	for {
		n, err := p.c.conn.Read(b)
		if n > 0 {
			return n, nil
		}
		if err = p.readError(err); err != nil {
			return 0, err
		}
	}
}

// readError is what an error of the client's connection means; nil is to go on.
func (p *pump) readError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return errBodyEnd
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return errGone
	case p.c.over():
		return errBodyTime
	case p.stopping.Load():
		return errStopped
	}
	p.c.lookAgain()
	if p.stopping.Load() { // it may have been said just before
		return errStopped
	}
	return nil
}

// progress gives the body its time anew, if it is fast enough over all. Once the row
// answers, neither is held to the pace of the other.
func (p *pump) progress(n int) error {
	if !p.c.w.req.chunked {
		p.total += int64(n)
	}
	if !p.limit(p.c.proxy.cfg.BodyTimeout) {
		return nil
	}
	if d := time.Since(p.began); d > p.c.proxy.cfg.MinBodyAfter && p.total < int64(d/time.Second)*int64(p.c.proxy.cfg.MinBodyRate) && !p.consumed.Load() {
		return errBodyTime
	}
	return nil
}
