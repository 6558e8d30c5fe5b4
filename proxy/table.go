// Package proxy is the data plane of a node: it picks a container for each request
// by the replicated turn, claims it, sends the request and settles.
//
// It owns turns in hand (leases), the pool of upstreams, and the count of requests
// served. It promises that a request never waits for the leader except where its
// service asks for exact turns, that no claim lands on a row after a table without
// it has been set, and that a row answers a request at most once: it gets one
// again only on a new connection, where it ended an idle one without a word. It imports
// nothing of ours and knows nothing of Raft, Docker or gossip.
package proxy

import (
	"context"
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
	// HealthPath is the row's own where it is not its service's: in the middle of a
	// roll-out that changes it there are both.
	HealthPath string
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
	HealthTimeout  time.Duration // of one question; 0: healthTimeout
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
