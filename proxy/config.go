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
	// IdleTimeout is how long a client's connection may wait for its next request.
	// 75 s, above that of common load balancers (60 s).
	IdleTimeout time.Duration
	// BodyTimeout is how long a request's body, or a client that takes an answer,
	// may pause. 60 s: a phone that changes networks is back by then.
	BodyTimeout time.Duration
	// MinBodyRate is the least bytes a second of a request's body, counted from half
	// a minute on: one that sends a byte a minute would hold a row for hours. 256.
	MinBodyRate int
	// MinBodyAfter is from when on MinBodyRate counts. 30 s.
	MinBodyAfter time.Duration
	// QuietTimeout is how long a row may send nothing in the middle of an answer.
	// 10 min: event streams are quiet for long.
	QuietTimeout time.Duration
	// GoneAfter is how long a row may be silent before its client is asked for: one that
	// has closed its side by then is taken to have left, and the row is let go. 10 s: who
	// only closed its sending side gets what comes before.
	GoneAfter time.Duration
	// MaxConns bounds the client connections of this node. 20,000: at 10 KiB each
	// when idle they are 200 MiB.
	MaxConns int
	// MaxInFlight bounds the requests in flight from here on one row; more wait in a queue.
	// 1,024: above it a container of one CPU only answers later.
	MaxInFlight int
	// MaxQueue bounds the requests of a service that wait for a row with room. 1,024.
	MaxQueue int
	// MaxHead bounds the head of a request, in bytes. 64 KiB: eight times what
	// browsers send at worst.
	MaxHead int
	// MaxFields bounds the fields of a request's head. 128.
	MaxFields int
	// MaxTarget bounds the target of a request, in bytes. 16 KiB: four times what
	// browsers send.
	MaxTarget int
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
	maxHead        = 64 << 10 // bytes of an answer's head
	maxFields      = 128      // fields of an answer's head
	maxTarget      = 16 << 10 // bytes of a target where nothing else is said
	idleRowTimeout = 30 * time.Second
	// continueTimeout is how long net/http's path waits for a row's 100 before it sends
	// the body unasked; the own path leaves that to the client. As http.DefaultTransport.
	continueTimeout = time.Second
)

// bounds of a head.
type bounds struct{ head, fields, target int }

var usual = bounds{maxHead, maxFields, maxTarget}

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
	duration(&c.BodyTimeout, 60*time.Second)
	duration(&c.QuietTimeout, 10*time.Minute)
	duration(&c.GoneAfter, 10*time.Second)
	number(&c.MinBodyRate, 256)
	duration(&c.MinBodyAfter, 30*time.Second)
	number(&c.MaxInFlight, 1024)
	number(&c.MaxQueue, 1024)
	number(&c.MaxHead, maxHead)
	number(&c.MaxFields, maxFields)
	number(&c.MaxTarget, maxTarget)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Default is a configuration with every default in it.
func Default() Config { return Config{}.withDefaults() }

// trusts says whether a peer may say for whom it asks.
func (c *Config) trusts(peer netip.Addr) bool {
	for _, p := range c.TrustedProxies {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}
