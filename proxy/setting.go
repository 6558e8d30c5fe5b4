package proxy

import (
	"slices"
	"strings"
	"sync/atomic"
)

// routing is a Table made ready to be read by requests.
type routing struct {
	index    atomic.Uint64
	table    Table
	routes   []route // longest prefix first
	services map[string]*service
	changed  chan struct{} // closed when another one is in force
}

type route struct {
	prefix  string
	service *service
}

// service is a Service with its upstreams and its turns.
type service struct {
	Service
	rows  []*upstream // in rotation
	exact bool
	turns *turns
	line  *line
	own   *rowStats // answers that no row gave
}

// match finds the service for a path: the longest prefix that ends at a segment.
func (r *routing) match(path string) *service {
	for i := range r.routes {
		x := &r.routes[i]
		if strings.HasPrefix(path, x.prefix) &&
			(strings.HasSuffix(x.prefix, "/") || len(path) == len(x.prefix) || path[len(x.prefix)] == '/') {
			return x.service
		}
	}
	return nil
}

// SetTable puts a table in force. After it returns no new claim lands on a row that
// is absent or draining. A table that says nothing new costs a comparison.
func (p *Proxy) SetTable(t Table) {
	p.setting.Lock()
	defer p.setting.Unlock()
	old := p.routing.Load()
	if old != nil && slices.EqualFunc(old.table.Services, t.Services, sameService) {
		old.index.Store(t.Index)
		p.forget()
		return
	}
	next := &routing{table: t, services: map[string]*service{}, changed: make(chan struct{})}
	next.index.Store(t.Index)
	keep := map[rowKey]bool{}
	for _, s := range t.Services {
		x := p.serviceOf(s, keep)
		next.services[s.Name] = x
		for _, prefix := range s.Routes {
			next.routes = append(next.routes, route{prefix, x})
		}
	}
	slices.SortStableFunc(next.routes, func(a, b route) int { return len(b.prefix) - len(a.prefix) })
	p.routing.Store(next)
	for k, u := range p.pool {
		if !keep[k] {
			u.drain()
			u.idle.close()
		}
	}
	p.forget()
	for name, t := range p.turns {
		if next.services[name] == nil {
			t.stop()
			delete(p.turns, name)
			delete(p.lines, name)
		}
	}
	if old != nil {
		close(old.changed)
	}
}

// serviceOf is called with setting held. It marks the rows of s in keep.
func (p *Proxy) serviceOf(s Service, keep map[rowKey]bool) *service {
	x := &service{Service: s, exact: s.Mode == string(Exact), turns: p.turnsOf(s.Name), line: p.lines[s.Name], own: p.statsOf(s.Name, 0)}
	for _, r := range s.Rows {
		k := rowKey{s.Name, r.Number, r.Generation, r.Addr, r.Direct}
		u := p.pool[k]
		if u == nil {
			u = &upstream{Row: r, service: s.Name, limit: uint64(p.cfg.MaxInFlight), stats: p.statsOf(s.Name, r.Number)}
			p.pool[k] = u
		}
		keep[k] = true
		if r.Draining {
			u.drain()
			u.idle.close()
			continue
		}
		u.idle.open()
		u.restore()
		x.rows = append(x.rows, u)
	}
	return x
}

// forget lets go of rows that have left the table and have nothing in flight.
func (p *Proxy) forget() {
	if len(p.pool) == p.routed() {
		return
	}
	known := map[rowKey]bool{}
	for _, s := range p.routing.Load().table.Services {
		for _, r := range s.Rows {
			known[rowKey{s.Name, r.Number, r.Generation, r.Addr, r.Direct}] = true
		}
	}
	for k, u := range p.pool {
		if !known[k] && u.inFlight() == 0 {
			delete(p.pool, k)
		}
	}
}

func (p *Proxy) routed() int {
	n := 0
	for _, s := range p.routing.Load().table.Services {
		n += len(s.Rows)
	}
	return n
}

func sameService(a, b Service) bool {
	return a.Name == b.Name && a.Mode == b.Mode && a.HealthPath == b.HealthPath && a.HealthTimeout == b.HealthTimeout && a.ExposeInternal == b.ExposeInternal &&
		a.DebugHeaders == b.DebugHeaders && a.MaxBody == b.MaxBody && a.Timeout == b.Timeout &&
		slices.Equal(a.Routes, b.Routes) && slices.Equal(a.Uncounted, b.Uncounted) && slices.Equal(a.Rows, b.Rows)
}

// turnsOf is called with setting held.
func (p *Proxy) turnsOf(service string) *turns {
	t := p.turns[service]
	if t == nil {
		if p.seqs[service] == nil {
			p.seqs[service] = new(atomic.Uint64)
		}
		t = newTurns(service, p.cfg.Node, p.source, p.seqs[service])
		p.turns[service] = t
		p.lines[service] = newLine(p.cfg.MaxQueue)
		if p.begin != nil {
			p.begin(t)
		}
	}
	return t
}

// statsOf is called with setting held.
func (p *Proxy) statsOf(service string, number int) *rowStats {
	k := statsKey{service, number}
	s := p.stats[k]
	if s == nil {
		s = &rowStats{}
		p.stats[k] = s
	}
	return s
}

// Serving is the index of the table that every pick since uses.
func (p *Proxy) Serving() uint64 { return p.routing.Load().index.Load() }

// RowLoad is what this proxy has in flight on a row.
type RowLoad struct {
	Service    string
	Number     int
	Generation uint64
	InFlight   int
}

// InFlight returns the rows with requests in flight, also those that have gone from
// the table.
func (p *Proxy) InFlight() []RowLoad {
	p.setting.Lock()
	defer p.setting.Unlock()
	var out []RowLoad
	for k, u := range p.pool {
		if n := u.inFlight(); n > 0 {
			out = append(out, RowLoad{k.service, k.number, k.generation, n})
		}
	}
	return out
}
