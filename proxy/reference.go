package proxy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The reference path: net/http's server and reverse proxy around the same trip. It
// serves HTTP/2, and what the own path is compared with.

// ServeHTTP serves one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	if r.ProtoMajor > 1 {
		rec.pause = p.cfg.BodyTimeout
		defer rec.limit() // what is left goes when this returns
	}
	if r.ProtoMajor == 1 { // without it the server would read all of a body before it sends an answer
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			p.cfg.Logger.Debug("answers wait for the end of bodies", "reason", err)
		}
	}
	x := &exchange{proxy: p, in: r}
	defer func() {
		x.trip.settle()
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		p.settled(&x.trip, rec.status, r.Method, r.RequestURI, host, x.id)
	}()
	if err := x.admit(r); err != nil {
		x.refuse(rec, err)
	} else {
		x.forward(rec, r)
	}
}

// exchange is a request and its body.
type exchange struct {
	proxy *Proxy
	in    *http.Request
	trip  trip
	id    string // X-Request-Id, once the request has been sent
	body  *body  // nil where there is none, or it may not be read
}

// leaves says whether part of the request's body is not read. The connection must end
// then: net/http, told to answer early, would go on behind the answer and panic over
// what is left.
func (x *exchange) leaves() bool {
	return x.in.ProtoMajor == 1 && x.in.Body != http.NoBody && (x.body == nil || !x.body.whole.Load())
}

// admit checks a request and finds its service.
func (x *exchange) admit(r *http.Request) error {
	path := r.URL.Path
	if r.URL.Host != "" {
		path = cmp.Or(path, "/") // http://host has none
	}
	if err := x.trip.begin(x.proxy, r.Method, path, time.Now()); err != nil {
		return err
	}
	s := x.trip.service
	if r.ProtoMajor > 1 {
		if err := x.bounded(r); err != nil {
			return err
		}
	}
	switch {
	case r.Method == http.MethodConnect:
		return errConnect
	case r.Host == "" && r.ProtoAtLeast(1, 1):
		return errHost
	case dropsTooMuch(r.Header):
		return errConnection
	case r.ContentLength > s.MaxBody && s.MaxBody > 0:
		return errTooLarge
	}
	return nil
}

// bounded is what the own path's parser sees to.
func (x *exchange) bounded(r *http.Request) error {
	fields := 0
	for _, values := range r.Header {
		fields += len(values)
	}
	switch most := x.proxy.bounds; {
	case len(r.RequestURI) > most.target:
		return errTargetSize
	case fields > most.fields:
		return errFields
	case !validHost([]byte(r.Host)):
		return errHost
	}
	for _, host := range r.Header["Host"] { // beside :authority, which is in r.Host
		if !strings.EqualFold(host, r.Host) {
			return errHost
		}
	}
	return nil
}

// forward sends the request by net/http's reverse proxy, whose transport is the
// exchange: it removes hop-by-hop headers, carries upgrades and streams both ways.
func (x *exchange) forward(w *recorder, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		limited := r.Body
		if n := x.trip.service.MaxBody; n > 0 {
			limited = http.MaxBytesReader(w, r.Body, n)
		}
		x.body = &body{ReadCloser: limited, cfg: &x.proxy.cfg, left: r.ContentLength, began: time.Now(), waits: r.Header.Get("Expect") != "" && r.ProtoAtLeast(1, 1), wanted: make(chan struct{}), over: make(chan struct{})}
		if r.ProtoMajor > 1 {
			x.body.pause = http.NewResponseController(w).SetReadDeadline
		}
		w.told = sync.OnceFunc(func() { close(x.body.wanted) })
		defer x.body.end()
		r.Body = x.body
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Method != http.MethodGet || x.body != nil || !r.ProtoAtLeast(1, 1) {
		r.Header.Del("Upgrade") // h2c and the like would hide what follows
	}
	proxy := httputil.ReverseProxy{
		Transport:      x,
		Rewrite:        x.rewrite,
		FlushInterval:  -1,
		ModifyResponse: x.mark,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, err error) { x.refuse(w, err) },
		ErrorLog:       log.New(io.Discard, "", 0), // what matters is answered or counted
	}
	proxy.ServeHTTP(w, r)
}

// rewrite says for whom the node asks; a trusted peer's word comes first.
func (x *exchange) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.Host = "http", r.In.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // also what net/url cannot read: the row may
	if r.In.ContentLength == 0 || r.In.ProtoMajor == 1 && r.In.ProtoMinor == 0 {
		r.Out.Header.Del("Expect") // there is nothing to wait with, or nobody who would
	}
	peer, err := netip.ParseAddrPort(r.In.RemoteAddr)
	trusted := err == nil && x.proxy.cfg.trusts(peer.Addr().Unmap())
	for name := range r.Out.Header {
		switch known([]byte(name)) {
		case fieldHop, fieldAlias, fieldOurs:
			delete(r.Out.Header, name)
		case fieldClaim:
			if !trusted {
				delete(r.Out.Header, name)
			}
		}
	}
	if trusted {
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"} {
			r.Out.Header[name] = r.In.Header[name]
		}
	} else {
		r.Out.Header.Del("Forwarded")
	}
	host, proto := r.Out.Header.Get("X-Forwarded-Host"), r.Out.Header.Get("X-Forwarded-Proto")
	r.SetXForwarded()
	if host != "" {
		r.Out.Header.Set("X-Forwarded-Host", host)
	} else if r.In.Host == "" {
		r.Out.Header.Del("X-Forwarded-Host")
	}
	if proto != "" {
		r.Out.Header.Set("X-Forwarded-Proto", proto)
	}
	scheme := "http"
	if r.In.TLS != nil {
		scheme = "https"
	}
	r.Out.Header.Add("Forwarded", forwardedFor(peer.Addr().Unmap())+string(appendForwarded(nil, r.In.Host, scheme)))
	for _, v := range r.In.Header.Values("X-Request-Id") {
		if plainID(v) {
			x.id = v
		}
	}
	if x.id == "" {
		x.id = string(appendID(nil))
	}
	r.Out.Header.Set("X-Request-Id", x.id)
	r.Out.Header.Add("Via", via)
}

// RoundTrip sends the request to the row whose turn it is, and to the next ones where
// that is safe; each row at most once.
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	var last error
	for {
		if err := x.trip.next(r.Context(), last); err != nil {
			return nil, err
		}
		u := x.trip.row
		resp, err := x.send(r, u)
		if err != nil {
			if r.Context().Err() != nil {
				err = errGone
			}
			if x.body != nil && x.body.bad.Load() != nil { // not the row's fault
				return nil, clientFault(*x.body.bad.Load())
			}
			reached := something
			var op *net.OpError
			if errors.As(err, &op) && op.Op == "dial" {
				reached = nothing
			}
			if !x.trip.failed(u, err, reached, x.body == nil || !x.body.read.Load()) {
				return nil, err
			}
			last = err
			continue
		}
		if x.trip.crashed(r.Context(), resp.StatusCode, u) && safe(r.Method) && x.body == nil && x.trip.another(r.Context()) {
			resp.Body.Close()
			x.trip.settle()
			x.proxy.metrics.retries.Add(1)
			last = errUnreached
			continue
		}
		x.trip.answered = u
		return resp, nil
	}
}

// send sends the request to a row.
func (x *exchange) send(r *http.Request, u *upstream) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	wait := newAllowance(x.trip.patience(), func() { cancel(errSlow) })
	out := r.WithContext(ctx)
	url := *r.URL
	url.Host = u.Addr
	out.URL = &url
	if x.body != nil {
		out.Body = x.body // the reverse proxy's own would not survive a try that failed
	}
	if x.body != nil {
		x.body.asked, x.body.wait, x.body.answer = time.Now(), wait, x.trip.service.Timeout
		x.body.from, x.body.trailers = x.in.Trailer, out.Trailer
		clear(out.Trailer) // of those announced, what has come and may be passed on
		for name := range x.in.Trailer {
			if pass, err := trailerAllowed([]byte(name + ":")); pass && err == nil {
				out.Trailer[name] = nil
			}
		}
	}
	resp, err := x.proxy.transport.RoundTrip(out)
	wait.end()
	if x.body != nil && err == nil {
		x.body.hear()
	}
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errSlow) {
			err = errSlow
		}
		cancel(nil)
		return nil, err
	}
	if _, upgraded := resp.Body.(io.ReadWriteCloser); !upgraded {
		resp.Body = newQuietBody(resp.Body, x.proxy.cfg.QuietTimeout, func() {
			x.proxy.metrics.met(limitQuiet)
			cancel(errSlow)
		})
	}
	resp.Body = closing(resp.Body, func() { cancel(nil) })
	return resp, nil
}

// mark adds the headers that show where a request went, where the spec asks.
func (x *exchange) mark(resp *http.Response) error {
	for _, h := range [3]string{"X-Orch-Node", "X-Orch-Container", "X-Orch-Turn"} {
		resp.Header.Del(h)
	}
	if x.leaves() {
		resp.Header.Set("Connection", "close")
	}
	t := &x.trip
	if t.service.DebugHeaders {
		resp.Header.Set("X-Orch-Node", x.proxy.cfg.Node)
		resp.Header.Set("X-Orch-Container", t.service.Name+"/"+strconv.Itoa(t.row.Number))
		resp.Header.Set("X-Orch-Turn", strconv.FormatUint(t.turn, 10)+" "+string(t.source))
	}
	return nil
}

// dropsTooMuch says whether Connection names a header without which the message
// means something else (RFC 9110, 7.6.1 lets it name any).
func dropsTooMuch(h http.Header) bool {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			if essential(strings.TrimSpace(name)) {
				return true
			}
		}
	}
	return false
}
