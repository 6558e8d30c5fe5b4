package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Proxy serves requests on one node.
type Proxy struct {
	cfg       Config
	bounds    bounds // of a request's head
	source    Turns
	suspects  Suspects
	dialer    net.Dialer
	transport *http.Transport
	metrics   *metrics
	clients   registry
	pipes     pipes
	works     sync.Pool     // *work
	buffers   sync.Pool     // *[copySize]byte
	unrouted  rowStats      // answers to requests that no service was found for
	seen      atomic.Uint64 // requests, for the access log's sample
	visits    chan visit    // that wait to be logged
	routing   atomic.Pointer[routing]

	setting sync.Mutex // one SetTable at a time; guards what follows
	pool    map[rowKey]*upstream
	turns   map[string]*turns
	lines   map[string]*line
	seqs    map[string]*atomic.Uint64 // of commands of turns, for the life of the proxy
	stats   map[statsKey]*rowStats
	begin   func(*turns) // starts keeping a service's turns, once Run is on
}

// New returns a proxy; Run starts it.
func New(cfg Config, source Turns, suspects Suspects) *Proxy {
	cfg = cfg.withDefaults()
	p := &Proxy{cfg: cfg, source: source, suspects: suspects, pool: map[rowKey]*upstream{}, turns: map[string]*turns{}, lines: map[string]*line{}, seqs: map[string]*atomic.Uint64{}, stats: map[statsKey]*rowStats{}, visits: make(chan visit, accessBuffer)}
	p.dialer = net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: 15 * time.Second}
	p.transport = &http.Transport{
		DialContext:            p.connect,
		MaxIdleConnsPerHost:    idlePerRow,
		IdleConnTimeout:        idleRowTimeout,
		ExpectContinueTimeout:  continueTimeout,
		DisableCompression:     true, // what the client asked for is what the row is asked for
		MaxResponseHeaderBytes: maxHead,
		ReadBufferSize:         16 << 10,
		WriteBufferSize:        16 << 10,
	}
	p.bounds = bounds{cfg.MaxHead, cfg.MaxFields, cfg.MaxTarget}
	p.works.New = func() any { return newWork(&p.bounds) }
	p.buffers.New = func() any { return new([copySize]byte) }
	p.metrics = newMetrics(p)
	p.clients.began = time.Now()
	p.SetTable(Table{})
	if cfg.Registry != nil {
		cfg.Registry.MustRegister(p.metrics)
	}
	return p
}

// Run serves on every listener until ctx ends; then it accepts nothing more, lets
// what is in flight end within the drain timeout, reports what was served, and
// returns.
func (p *Proxy) Run(ctx context.Context, listeners ...net.Listener) error {
	// Requests in flight still take turns while they drain.
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var keepers sync.WaitGroup
	p.setting.Lock()
	p.begin = func(t *turns) { keepers.Go(func() { t.keep(keep) }) }
	for _, t := range p.turns {
		p.begin(t)
	}
	p.setting.Unlock()
	endLog := p.logVisits()
	err := p.serve(ctx, listeners)
	endLog()
	p.setting.Lock()
	p.begin = func(*turns) {}
	p.setting.Unlock()
	stop()
	keepers.Wait()
	p.transport.CloseIdleConnections()
	p.pipes.close()
	p.setting.Lock()
	for _, u := range p.pool {
		u.idle.close()
	}
	p.setting.Unlock()
	return err
}

// serve returns when every connection has been closed.
func (p *Proxy) serve(ctx context.Context, listeners []net.Listener) error {
	cut, stop := context.WithCancelCause(context.WithoutCancel(ctx)) // ends what outlives the drain timeout
	defer stop(nil)
	g, ctx := errgroup.WithContext(ctx)
	server := p.server(cut)
	taken := newHandover()
	g.Go(func() error { return ended(server.Serve(taken)) })
	g.Go(func() error { p.clients.sweep(cut, p); return nil })
	var own []net.Listener
	var accepting sync.WaitGroup
	for _, l := range listeners {
		if _, tls := l.(*tlsListener); p.cfg.NetHTTP && !tls {
			g.Go(func() error { return ended(server.Serve(l)) })
			continue
		}
		own = append(own, l)
		accepting.Add(1)
		g.Go(func() error { return p.accept(ctx, cut, l, taken, accepting.Done) })
	}
	<-ctx.Done()
	for _, l := range own {
		endAccept(l)
	}
	accepting.Wait() // the others are served in any case
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.DrainTimeout)
	defer cancel()
	late := make(chan struct{})
	go func() {
		defer close(late)
		if server.Shutdown(drain) != nil {
			server.Close()
		}
	}()
	if !p.clients.drain(drain, &p.metrics.conns) {
		p.cfg.Logger.Warn("requests cut off at the drain timeout", "timeout", p.cfg.DrainTimeout)
	}
	<-late
	stop(errDraining)
	p.clients.cut()
	return g.Wait()
}

var errDraining = errors.New("the node shuts down")

// server is net/http's, for the connections that it serves.
func (p *Proxy) server(cut context.Context) *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(p.ServeHTTP), ReadHeaderTimeout: p.cfg.HeadTimeout, IdleTimeout: p.cfg.IdleTimeout, MaxHeaderBytes: p.cfg.MaxHead,
		ErrorLog:    slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return cut },
	}
}

func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve requests: %w", err)
}

// Mode is the source of turns in force for a service.
type Mode struct {
	Service string
	Source  Source
	Since   time.Time // of local turns; zero otherwise
}

// Status returns the modes of all services.
func (p *Proxy) Status() []Mode {
	var out []Mode
	r := p.routing.Load()
	for _, s := range r.table.Services {
		m := Mode{Service: s.Name, Source: Source(s.Mode)}
		if since := r.services[s.Name].turns.alone.Load(); since != 0 {
			m.Source, m.Since = Local, time.Unix(0, since)
		}
		out = append(out, m)
	}
	return out
}
