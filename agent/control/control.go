// Package control is what the leader does: it polls the health of every
// container, relaunches, scales, places, drains, and keeps the list of nodes and
// Raft's configuration.
//
// A term is a function: barrier, then loops, and it returns only when all have. A
// leader remembers nothing across terms; what must last is a column of the table.
// Deciding and doing are apart: plans are pure functions of a view, observations
// and the time, and the loops propose what they return. A full pass each interval
// is the truth; pokes only wake it early.
//
// Control owns no state of the cluster and never touches an engine: its only ways
// to change anything are commands and changes of Raft's members.
package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/fsm"
)

// Proposer commits commands as the leader. Refusals are the sentinels of fsm; any
// other error means "not now" or "perhaps", and the next pass proposes again.
type Proposer interface {
	Propose(ctx context.Context, c fsm.Command) (any, error)
	Barrier(ctx context.Context) error
}

// Views is the replicated table.
type Views interface {
	View() *fsm.State
	Subscribe() (<-chan struct{}, func())
}

// Member is a node as gossip sees it.
type Member struct {
	ID     string
	Status string // alive, suspect, dead or left
	Since  time.Time
}

// Members is who is there, by gossip: a hint, never proof.
type Members interface {
	Members() []Member
	// Kick gets a value after something has changed; it may be nil.
	Kick() <-chan struct{}
}

// Load is how many requests a node has in flight on a row.
type Load struct {
	Service    string
	Number     int
	Generation uint64
	InFlight   int
}

// Report is what a node says of itself. Serving must be read before Loads.
type Report struct {
	Applied  uint64 // index its state has reached
	Serving  uint64 // index of the table its proxy serves from
	Fenced   bool   // its disk takes no writes: it acknowledges nothing
	NoLeader bool   // it hears no leader: a new one may not know yet whom it does not reach
	Loads    []Load
}

// ErrUnhealthy is what Peers.ProbeFrom wraps when the owner has probed and agrees.
var ErrUnhealthy = errors.New("unhealthy")

// Peers asks other nodes.
type Peers interface {
	// Report is also the second probe of a node that gossip has lost.
	Report(ctx context.Context, node string) (Report, error)
	// ProbeFrom asks a node to probe a row itself: nil is healthy, ErrUnhealthy is
	// not, any other error is no opinion.
	ProbeFrom(ctx context.Context, node string, row fsm.Container) error
}

// Voter is a member of Raft's configuration.
type Voter struct {
	ID, Addr string
	Voter    bool
}

// Voters changes Raft's configuration.
type Voters interface {
	Voters() ([]Voter, error)
	// Silent are the members that the leader's heartbeats do not reach, and since when.
	Silent() map[string]time.Time
	AddNonvoter(ctx context.Context, id, addr string) error
	AddVoter(ctx context.Context, id, addr string) error
	Remove(ctx context.Context, id string) error
	// Transfer hands leadership to a voter, or to the best one when to is "".
	Transfer(ctx context.Context, to string) error
}

// Config of control. Zero fields have the defaults of limits.go.
type Config struct {
	Node     string
	Interval time.Duration // between two probes of a container
	// DialAddr is where this node reaches a row.
	DialAddr func(v *fsm.State, row fsm.Container) string
	// Dial connects to a row; net.Dialer's where nil.
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	Now      func() int64   // stamp, ms
	Jitter   func() float64 // 0 to 1
	Stable   time.Duration  // how long a member must have been fit to get its vote
	Logger   *slog.Logger
	Registry prometheus.Registerer // may be nil
}

// Control of one node; it acts only while that node leads.
type Control struct {
	cfg      Config
	views    Views
	prop     Proposer
	members  Members
	peers    Peers
	voters   Voters
	prober   *prober
	metrics  *metrics
	leading  atomic.Bool
	suspects chan rowKey
}

// New returns a control; Run starts it.
func New(cfg Config, views Views, prop Proposer, members Members, peers Peers, voters Voters) *Control {
	if cfg.Interval <= 0 {
		cfg.Interval = defaultInterval
	}
	if cfg.Stable <= 0 {
		cfg.Stable = defaultStable
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Control{
		cfg: cfg, views: views, prop: prop, members: members, peers: peers, voters: voters,
		prober: newProber(cfg.Dial), metrics: newMetrics(cfg.Registry), suspects: make(chan rowKey, maxSuspects),
	}
}

// Suspect has a row probed at once. It never blocks; what does not fit is found
// by the next round. On a node that does not lead it does nothing.
func (c *Control) Suspect(service string, number int, generation uint64) {
	if !c.leading.Load() {
		return
	}
	select {
	case c.suspects <- rowKey{service, number, generation}:
	default:
	}
}

// Probe asks the health API of a row of this node, for a leader's second opinion;
// nil is healthy.
func (c *Control) Probe(ctx context.Context, row fsm.Container) error {
	v := c.views.View()
	sv, ok := v.Service(row.Service)
	if !ok {
		return fsm.ErrNoSuchService
	}
	return c.prober.probe(ctx, c.cfg.DialAddr(v, row), sv.SpecOf(row).Health.Path, c.timeout(sv.Spec))
}

// timeout of a probe: the spec's, and below the interval.
func (c *Control) timeout(s fsm.Spec) time.Duration {
	return min(time.Duration(s.Health.Timeout), max(c.cfg.Interval-timeoutSpare, c.cfg.Interval/2))
}
