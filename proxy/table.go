// Package proxy is the data plane of a node: it picks a container for each request
// by the replicated turn, claims it, sends the request and settles.
//
// It owns turns in hand (leases), the pool of upstreams, and the count of requests
// served. It promises that a request never waits for the leader except where its
// service asks for exact turns, that no claim lands on a row after a table without
// it has been set, and that a row is tried at most once a request. It imports
// nothing of ours and knows nothing of Raft, Docker or gossip.
package proxy

import (
	"context"
	"slices"
	"strings"
	"time"
)

// Row is one container that requests may go to.
type Row struct {
	Number     int
	Generation uint64
	Node       string
	Addr       string // host:port to dial
	// Direct is true where Addr is the container's own: a connection proves that
	// it got it. A published port is accepted by Docker's proxy before it dials.
	Direct bool
	// Draining rows finish what they have and get nothing new.
	Draining bool
}

// Service is where requests below its routes go.
type Service struct {
	Name           string
	Routes         []string // path prefixes; the longest of all services wins
	Mode           string   // leased or exact
	Rows           []Row    // in rotation order, and draining ones
	HealthPath     string
	ExposeInternal bool
	DebugHeaders   bool
	Uncounted      []string // path prefixes that do not count for scaling
	MaxBody        int64    // bytes
	Timeout        time.Duration
}

// Table is what a proxy serves from. It is not changed once given.
type Table struct {
	Index    uint64
	Services []Service
}

// TakeRequest asks for turns and reports what was served; the same Seq again counts
// once and gives the same run.
type TakeRequest struct {
	Service string
	Count   int    // turns wanted; 0 only reports
	Served  uint64 // counted requests since the last report
	Seq     uint64
}

// Turns is the replicated turn.
type Turns interface {
	Take(ctx context.Context, r TakeRequest) (from uint64, err error)
}

// Suspects hears of rows that failed a request. It must not block.
type Suspects interface {
	Suspect(service string, number int, generation uint64, reason string)
}

// routing is a Table made ready to be read by requests.
type routing struct {
	index    uint64
	routes   []route // longest prefix first
	services map[string]*service
	changed  chan struct{} // closed when a newer one is in force
}

type route struct {
	prefix  string
	service *service
}

// service is a Service with its upstreams and its turns.
type service struct {
	Service
	rows  []*upstream // in rotation
	turns *turns
}

// match finds the service for a path: the longest prefix that ends at a segment.
func (r *routing) match(path string) *service {
	for _, x := range r.routes {
		if strings.HasPrefix(path, x.prefix) &&
			(strings.HasSuffix(x.prefix, "/") || len(path) == len(x.prefix) || path[len(x.prefix)] == '/') {
			return x.service
		}
	}
	return nil
}

// SetTable puts a table in force. After it returns no new claim lands on a row that
// is absent or draining.
func (p *Proxy) SetTable(t Table) {
	p.setting.Lock()
	defer p.setting.Unlock()
	next := &routing{index: t.Index, services: map[string]*service{}, changed: make(chan struct{})}
	keep := map[rowKey]bool{}
	for _, s := range t.Services {
		x := &service{Service: s, turns: p.turnsOf(s.Name)}
		for _, r := range s.Rows {
			k := rowKey{s.Name, r.Number, r.Generation, r.Addr, r.Direct}
			u := p.pool[k]
			if u == nil {
				u = &upstream{Row: r, service: s.Name}
				p.pool[k] = u
			}
			keep[k] = true
			if r.Draining {
				u.drain()
			} else {
				u.restore()
				x.rows = append(x.rows, u)
			}
		}
		next.services[s.Name] = x
		for _, prefix := range s.Routes {
			next.routes = append(next.routes, route{prefix, x})
		}
	}
	slices.SortStableFunc(next.routes, func(a, b route) int { return len(b.prefix) - len(a.prefix) })
	old := p.routing.Swap(next)
	for k, u := range p.pool {
		if !keep[k] {
			u.drain()
			if u.inFlight() == 0 {
				delete(p.pool, k)
			}
		}
	}
	if old != nil {
		close(old.changed)
	}
	for name, t := range p.turns {
		if _, ok := next.services[name]; !ok {
			t.stop()
			delete(p.turns, name)
		}
	}
}

// Serving is the index of the table that every pick since uses.
func (p *Proxy) Serving() uint64 {
	if r := p.routing.Load(); r != nil {
		return r.index
	}
	return 0
}

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
