package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	pause  time.Duration // of a client that takes an answer; 0: the connection's own limits hold
	told   func()        // is called when the client has been told to go on; nil where it does not wait
}

// limit gives the client a pause to take what is written next. Only HTTP/2 has it by stream.
func (r *recorder) limit() { r.until(time.Now().Add(r.pause)) }

func (r *recorder) until(t time.Time) {
	http.NewResponseController(r.ResponseWriter).SetWriteDeadline(t) // fails on a stream that has ended only
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(b []byte) (int, error) {
	if r.pause > 0 {
		r.limit()
		defer r.until(time.Time{})
	}
	return r.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController flushes by.
func (r *recorder) FlushError() error {
	if r.pause > 0 {
		r.limit()
		defer r.until(time.Time{})
	}
	return http.NewResponseController(r.ResponseWriter).Flush()
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
	if status == http.StatusContinue && r.told != nil {
		r.told()
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// body is a request's body that knows whether any of it has been read, and that a
// failed try does not close.
type body struct {
	io.ReadCloser
	cfg      *Config
	began    time.Time
	total    int64
	pause    func(time.Time) error // limits the next read; nil: the connection's own limits hold
	wait     *allowance            // of the try at hand
	answer   time.Duration         // what the row has from the end of the body on
	left     int64                 // below 0: until its end
	waits    bool                  // for the row to want it
	asked    time.Time             // when it was asked
	answered atomic.Bool           // the row has answered
	wanted   chan struct{}         // closed when the client has been told to go on
	over     chan struct{}         // closed when the request has been served
	from     http.Header           // the client's trailers, once its body has been read
	trailers http.Header           // those that go on
	read     atomic.Bool
	whole    atomic.Bool           // all of it has been read
	bad      atomic.Pointer[error] // what the client's side of it broke with

	mu     sync.Mutex
	closed bool // the request has been served: its stream may be another's
}

func (b *body) Read(p []byte) (int, error) {
	b.read.Store(true)
	if b.waits {
		// net/http tells the client to go on at the first read, and reads also when the row
		// has answered without: the row's own word is waited for.
		select {
		case <-b.wanted:
		case <-b.over:
			return 0, errStopped
		case <-time.After(time.Until(b.asked.Add(continueTimeout))):
			if b.answered.Load() {
				<-b.over
				return 0, errStopped
			}
		}
	}
	n, err := b.next(p)
	if b.left -= int64(n); b.left == 0 && n > 0 || err == io.EOF {
		b.whole.Store(true)
		b.wait.give(b.answer)
	}
	if err == io.EOF {
		for name := range b.trailers { // net/http has them in the request it gave us only
			b.trailers[name] = b.from[name]
		}
	}
	if err != nil && err != io.EOF {
		b.bad.CompareAndSwap(nil, &err)
	}
	return n, err
}

// next reads, with the limits that the own path has.
func (b *body) next(p []byte) (int, error) {
	b.wait.give(b.cfg.BodyTimeout)
	if b.pause == nil {
		return b.ReadCloser.Read(p)
	}
	if !b.limit(time.Now().Add(b.cfg.BodyTimeout)) {
		return 0, errStopped
	}
	n, err := b.ReadCloser.Read(p)
	if !b.limit(time.Time{}) { // that the row takes its time is not the client's fault
		return 0, errStopped
	}
	b.total += int64(n)
	if d := time.Since(b.began); err == nil && !b.answered.Load() && d > b.cfg.MinBodyAfter && b.total < int64(d/time.Second)*int64(b.cfg.MinBodyRate) {
		err = errBodyTime
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errBodyTime
	}
	return n, err
}

// limit sets the time limit of reads; false: the request has been served, and whoever still
// reads for the row is late.
func (b *body) limit(t time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered.Load() {
		t = time.Time{} // from here on the time is the answer's
	}
	if !b.closed && b.pause != nil {
		b.pause(t) // fails on a stream that has ended, as the read does
	}
	return !b.closed
}

// hear is called when the row has begun to answer.
func (b *body) hear() {
	b.answered.Store(true)
	b.limit(time.Time{})
}

// end is called before the request has been served.
func (b *body) end() {
	close(b.over)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// allowance is how long a row has, by now, to begin its answer. A nil one is for ever.
type allowance struct {
	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

func newAllowance(d time.Duration, over func()) *allowance {
	if d <= 0 {
		return nil
	}
	return &allowance{timer: time.AfterFunc(d, over)}
}

// give begins the time anew.
func (a *allowance) give(d time.Duration) {
	if a == nil || d <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.timer.Reset(d)
	}
}

// end is called when the answer has begun, or will not.
func (a *allowance) end() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	a.timer.Stop()
}

func (b *body) Close() error { return nil } // the server closes it

// quietBody is an answer's body in which the row may pause for so long.
type quietBody struct {
	io.ReadCloser
	pause time.Duration
	timer *time.Timer
}

func newQuietBody(b io.ReadCloser, pause time.Duration, over func()) *quietBody {
	q := &quietBody{b, pause, time.AfterFunc(pause, over)}
	q.timer.Stop()
	return q
}

func (q *quietBody) Read(p []byte) (int, error) {
	q.timer.Reset(q.pause)
	defer q.timer.Stop()
	return q.ReadCloser.Read(p)
}

// closing returns b with done called once, at its close. An upgraded connection
// stays one that can be written.
func closing(b io.ReadCloser, done func()) io.ReadCloser {
	once := sync.OnceFunc(done)
	if rw, ok := b.(io.ReadWriteCloser); ok {
		return &closingConn{rw, once}
	}
	return &closingBody{b, once}
}

type closingBody struct {
	io.ReadCloser
	done func()
}

func (b *closingBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

type closingConn struct {
	io.ReadWriteCloser
	done func()
}

func (c *closingConn) Close() error {
	defer c.done()
	return c.ReadWriteCloser.Close()
}
