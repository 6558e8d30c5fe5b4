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

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Config of a proxy; zero fields take their defaults.
type Config struct {
	Node     string
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil: no metrics
	// Hold is how long a request waits for a row when none is in rotation.
	Hold time.Duration
	// DrainTimeout is how long requests in flight may go on after Run is to end.
	DrainTimeout time.Duration
	// DialTimeout bounds a connection to a row. The address of a container that was
	// removed is silent for 3 s.
	DialTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Hold == 0 {
		c.Hold = 2 * time.Second
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 8 * time.Second
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 500 * time.Millisecond
	}
	return c
}

// Limits of the listener.
const (
	maxHead        = 64 << 10 // bytes of a request's head
	headTimeout    = 10 * time.Second
	idleTimeout    = 75 * time.Second
	idlePerRow     = 256 // connections kept to one row
	idleRowTimeout = 30 * time.Second
)

// Proxy serves requests on one node.
type Proxy struct {
	cfg       Config
	source    Turns
	suspects  Suspects
	transport *http.Transport
	metrics   *metrics
	routing   atomic.Pointer[routing]

	setting sync.Mutex // one SetTable at a time; guards pool and turns
	pool    map[rowKey]*upstream
	turns   map[string]*turns
	begin   func(*turns) // starts keeping a service's turns, once Run is on
}

// New returns a proxy; Run starts it.
func New(cfg Config, source Turns, suspects Suspects) *Proxy {
	cfg = cfg.withDefaults()
	p := &Proxy{cfg: cfg, source: source, suspects: suspects, pool: map[rowKey]*upstream{}, turns: map[string]*turns{}}
	p.transport = &http.Transport{
		DialContext:            (&net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		MaxIdleConnsPerHost:    idlePerRow,
		IdleConnTimeout:        idleRowTimeout,
		DisableCompression:     true, // what the client asked for is what the row is asked for
		MaxResponseHeaderBytes: maxHead,
		ReadBufferSize:         16 << 10,
		WriteBufferSize:        16 << 10,
	}
	p.metrics = newMetrics(cfg.Registry, p)
	p.SetTable(Table{})
	return p
}

// turnsOf is called with setting held.
func (p *Proxy) turnsOf(service string) *turns {
	t := p.turns[service]
	if t == nil {
		t = newTurns(service, p.cfg.Node, p.source)
		p.turns[service] = t
		if p.begin != nil {
			p.begin(t)
		}
	}
	return t
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
	server := &http.Server{
		Handler: p, ReadHeaderTimeout: headTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHead,
		ErrorLog: slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve requests on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		p.cfg.Logger.Warn("requests cut off at the drain timeout", "timeout", p.cfg.DrainTimeout)
		server.Close()
	}
	err := g.Wait()
	p.setting.Lock()
	p.begin = func(*turns) {}
	p.setting.Unlock()
	stop()
	keepers.Wait()
	p.transport.CloseIdleConnections()
	return err
}

// Mode is the source of turns in force for a service.
type Mode struct {
	Service string
	Source  Source
	Since   time.Time // of local turns; zero otherwise
}

// Status returns the modes of all services.
func (p *Proxy) Status() []Mode {
	p.setting.Lock()
	defer p.setting.Unlock()
	r := p.routing.Load()
	var out []Mode
	for name, s := range r.services {
		m := Mode{Service: name, Source: Source(s.Mode)}
		if since := s.turns.failing.Load(); since != 0 {
			m.Source, m.Since = Local, time.Unix(0, since)
		}
		out = append(out, m)
	}
	return out
}
