package proxy

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config of a proxy; zero fields take their defaults.
type Config struct {
	Node     string
	Logger   *slog.Logger
	Registry prometheus.Registerer // nil: no metrics
	// Hold is how long a request waits for a row when none is in rotation, or all
	// are full. 2 s: a container is replaced in about 1.
	Hold time.Duration
	// DrainTimeout is how long requests in flight may go on after Run is to end.
	// 8 s, so that a node is gone in 10.
	DrainTimeout time.Duration
	// DialTimeout bounds a connection to a row. 500 ms: the address of a container
	// that was removed is silent for 3 s.
	DialTimeout time.Duration
	// HeadTimeout is how long a request's head may take from its first byte. 10 s.
	HeadTimeout time.Duration
	// IdleTimeout is how long a client's connection may wait for its next request,
	// and a body for its next byte. 75 s, above that of common load balancers (60 s).
	IdleTimeout time.Duration
	// MaxConns bounds the client connections of this node. 20,000: at 10 KiB each
	// when idle they are 200 MiB.
	MaxConns int
	// MaxInFlight bounds the requests in flight on one row; more wait in a queue.
	// 1,024: above it a container of one CPU only answers later.
	MaxInFlight int
	// TrustedProxies may set X-Forwarded-… and Forwarded; of others they are replaced.
	TrustedProxies []netip.Prefix
	// AccessLog logs one of this many requests; 0 is off, 1 is all.
	AccessLog int
	// NetHTTP serves every connection by net/http. It is the reference that the
	// proxy's own HTTP/1.1 path is held against; HTTP/2 always goes by it.
	NetHTTP bool
}

// Limits that are the same everywhere.
const (
	maxHead        = 64 << 10 // bytes of a head: eight times what browsers send at worst
	maxFields      = 128      // fields of a head
	maxTarget      = 16 << 10 // bytes of a request's target: four times what browsers send
	maxQueue       = 1024     // requests of a service that wait for a row with room
	idleRowTimeout = 30 * time.Second
)

func (c Config) withDefaults() Config {
	duration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	number := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	duration(&c.Hold, 2*time.Second)
	duration(&c.DrainTimeout, 8*time.Second)
	duration(&c.DialTimeout, 500*time.Millisecond)
	duration(&c.HeadTimeout, 10*time.Second)
	duration(&c.IdleTimeout, 75*time.Second)
	number(&c.MaxConns, 20_000)
	number(&c.MaxInFlight, 1024)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// trusts says whether a peer may say for whom it asks.
func (c *Config) trusts(peer netip.Addr) bool {
	for _, p := range c.TrustedProxies {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}
