package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// healthTimeout bounds the question whether a row that answered 5xx has crashed.
const healthTimeout = 300 * time.Millisecond

// RoundTrip sends the request to the row whose turn it is, and to the next ones where
// that is safe; each row at most once.
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	var last error = errUnreached
	for {
		u := x.service.pick(x.turn, x.tried, time.Now())
		if u == nil {
			if len(x.tried) > 0 {
				return nil, last
			}
			if err := x.again(r); err != nil {
				return nil, err
			}
			continue
		}
		x.tried = append(x.tried, u)
		resp, err := x.send(r, u)
		if err == nil && !x.crashed(r, resp, u) {
			x.row = u
			return resp, nil
		}
		if err == nil {
			last = errUnreached
			resp.Body.Close()
			x.proxy.metrics.retries.Inc()
			continue
		}
		if x.body != nil && x.body.bad.Load() != nil { // not the row's fault
			return nil, clientFault(*x.body.bad.Load())
		}
		last = err
		if r.Context().Err() == nil {
			x.blame(u, err)
		}
		if !x.mayRetry(r, err) {
			return nil, err
		}
		x.proxy.metrics.retries.Inc()
	}
}

// again finds the service in a newer table: between the look at the rotation and the
// pick every row of it has begun to drain.
func (x *exchange) again(r *http.Request) error {
	timeout := time.NewTimer(x.proxy.cfg.Hold)
	defer timeout.Stop()
	select {
	case <-x.table.changed:
	case <-timeout.C:
		return errNoRow
	case <-r.Context().Done():
		return errNoRow
	}
	x.service = &service{Service: x.service.Service, turns: x.service.turns}
	return x.proxy.hold(r.Context(), x, r.URL.Path)
}

// send sends the request to one row that has been claimed, and settles when its
// answer has been read.
func (x *exchange) send(r *http.Request, u *upstream) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	timer := time.AfterFunc(x.service.Timeout, func() { cancel(errSlow) })
	if x.service.Timeout == 0 {
		timer.Stop()
	}
	out := r.WithContext(ctx)
	url := *r.URL
	url.Host = u.Addr
	out.URL = &url
	if x.body != nil {
		out.Body = x.body // the reverse proxy's own would not survive a try that failed
	}
	resp, err := x.proxy.transport.RoundTrip(out)
	timer.Stop()
	if err != nil {
		u.settle()
		if cause := context.Cause(ctx); errors.Is(cause, errSlow) {
			err = errSlow
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = settled(resp.Body, func() { u.settle(); cancel(nil) })
	return resp, nil
}

// mayRetry is the one place that says whether another row may get the request: when
// no connection was made, any method; after that only an idempotent one; and never
// when bytes of its body have been read, for they are gone.
func (x *exchange) mayRetry(r *http.Request, err error) bool {
	if r.Context().Err() != nil || x.body != nil && x.body.read.Load() {
		return false
	}
	if errors.Is(err, errSlow) {
		return false
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	return idempotent(r.Method) && x.body == nil
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// crashed says whether an answer is to be given by another row instead: the row
// answered 5xx, its health API fails too, and the request may be sent again.
func (x *exchange) crashed(r *http.Request, resp *http.Response, u *upstream) bool {
	if resp.StatusCode < 500 || x.service.HealthPath == "" || len(x.service.rows) == 0 {
		return false
	}
	if x.proxy.healthy(r.Context(), u, x.service.HealthPath) || r.Context().Err() != nil {
		return false
	}
	x.blame(u, errors.New("answered "+resp.Status+" and is not healthy"))
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead
	return safe && x.body == nil && len(x.tried) < len(x.service.rows)
}

func (p *Proxy) healthy(ctx context.Context, u *upstream, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+u.Addr+path, nil)
	if err != nil {
		return false
	}
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxHead))
	return resp.StatusCode == http.StatusOK
}

// blame passes a row over for a moment and tells the leader.
func (x *exchange) blame(u *upstream, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) || errors.Is(err, errSlow) {
		return // not the row's fault, or not surely
	}
	u.eject(time.Now())
	x.proxy.metrics.ejections.Inc()
	x.proxy.suspects.Suspect(x.service.Name, u.Number, u.Generation, err.Error())
}

// body is a request's body that knows whether any of it has been read, and that a
// failed try does not close.
type body struct {
	io.ReadCloser
	read atomic.Bool
	bad  atomic.Pointer[error] // what the client's side of it broke with
}

func (b *body) Read(p []byte) (int, error) {
	b.read.Store(true)
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.bad.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *body) Close() error { return nil } // the server closes it

// settled returns body with done called once, at its close. An upgraded connection
// stays one that can be written to.
func settled(b io.ReadCloser, done func()) io.ReadCloser {
	once := sync.OnceFunc(done)
	if rw, ok := b.(io.ReadWriteCloser); ok {
		return &settledConn{rw, once}
	}
	return &settledBody{b, once}
}

type settledBody struct {
	io.ReadCloser
	done func()
}

func (b *settledBody) Close() error {
	defer b.done()
	return b.ReadCloser.Close()
}

type settledConn struct {
	io.ReadWriteCloser
	done func()
}

func (c *settledConn) Close() error {
	defer c.done()
	return c.ReadWriteCloser.Close()
}
