package proxy

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

// exchange is one request on its way: where it may go and where it went.
type exchange struct {
	proxy   *Proxy
	table   *routing // that service is of
	service *service
	turn    uint64
	source  Source
	row     *upstream   // the one that answered
	tried   []*upstream // at most once a row
	body    *body       // nil where there is none
}

type exchangeKey struct{}

// ServeHTTP serves one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w}
	// Without it the server would read all of a body before it sends an answer.
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil && r.ProtoMajor == 1 {
		p.cfg.Logger.Debug("answers wait for the end of bodies", "reason", err)
	}
	began := time.Now()
	name := ""
	if x, err := p.admit(r); err != nil {
		refuse(rec, err)
		if x != nil {
			name = x.service.Name
		}
	} else {
		name = x.service.Name
		ctx := context.WithValue(r.Context(), exchangeKey{}, x)
		x.forward(rec, r.WithContext(ctx))
	}
	p.metrics.request(name, rec.status, time.Since(began))
}

// admit checks a request, finds its service, counts it and gives it a turn.
func (p *Proxy) admit(r *http.Request) (*exchange, error) {
	table := p.routing.Load()
	s := table.match(r.URL.Path)
	if s == nil {
		return nil, errNoService
	}
	x := &exchange{proxy: p, table: table, service: s}
	if counts(s, r.URL.Path) {
		s.turns.served.Add(1)
	}
	switch {
	case dropsTooMuch(r.Header):
		return x, errConnection
	case !s.ExposeInternal && internal(r.URL):
		return x, errInternal
	case r.ContentLength > s.MaxBody && s.MaxBody > 0:
		return x, errTooLarge
	}
	if err := p.hold(r.Context(), x, r.URL.Path); err != nil {
		return x, err
	}
	if x.service.Mode == "exact" {
		x.turn, x.source = x.service.turns.exact(r.Context())
	} else {
		x.turn, x.source = x.service.turns.lease(r.Context())
	}
	p.metrics.turn(x.service.Name, x.source)
	return x, nil
}

// hold waits for a row when none is in rotation, for a while.
func (p *Proxy) hold(ctx context.Context, x *exchange, path string) error {
	if len(x.service.rows) > 0 {
		return nil
	}
	timeout := time.NewTimer(p.cfg.Hold)
	defer timeout.Stop()
	for {
		r := p.routing.Load()
		if s := r.match(path); s != nil && len(s.rows) > 0 {
			x.table, x.service = r, s
			return nil
		}
		select {
		case <-r.changed:
		case <-timeout.C:
			return errNoRow
		case <-ctx.Done():
			return errNoRow
		}
	}
}

// forward sends the request by net/http's reverse proxy, whose transport is the
// exchange: it removes hop-by-hop headers, carries upgrades and streams both ways.
func (x *exchange) forward(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		limited := r.Body
		if x.service.MaxBody > 0 {
			limited = http.MaxBytesReader(w, r.Body, x.service.MaxBody)
		}
		x.body = &body{ReadCloser: limited}
		r.Body = x.body
	}
	if u := r.Header.Get("Upgrade"); u != "" && !strings.EqualFold(u, "websocket") {
		r.Header.Del("Upgrade") // h2c and the like would hide what follows
	}
	proxy := httputil.ReverseProxy{
		Transport: x,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.Host = "http", pr.In.Host
			pr.Out.Header.Del("Forwarded")
			pr.SetXForwarded()
		},
		FlushInterval:  -1,
		ModifyResponse: x.mark,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, err error) { refuse(w, err) },
		ErrorLog:       log.New(io.Discard, "", 0), // what matters is answered or counted
	}
	proxy.ServeHTTP(w, r)
}

// mark adds the headers that show where a request went, where the spec asks.
func (x *exchange) mark(resp *http.Response) error {
	for _, h := range [3]string{"X-Orch-Node", "X-Orch-Container", "X-Orch-Turn"} {
		resp.Header.Del(h)
	}
	if x.service.DebugHeaders {
		resp.Header.Set("X-Orch-Node", x.proxy.cfg.Node)
		resp.Header.Set("X-Orch-Container", x.service.Name+"/"+strconv.Itoa(x.row.Number))
		resp.Header.Set("X-Orch-Turn", strconv.FormatUint(x.turn, 10)+" "+string(x.source))
	}
	return nil
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
