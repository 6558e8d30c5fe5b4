// Package control is what the leader does: it polls the health of every
// container, relaunches, scales, places, drains, and keeps the list of nodes.
//
// A term is a function: barrier, then loops, and it returns only when all have. A
// leader remembers nothing across terms; what must last is a column of the table.
// Deciding and doing are apart: plans are pure functions of a view, observations
// and the time, and the loops propose what they return. Control never touches an
// engine.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"orch/fsm"
)

// Proposer commits commands as the leader.
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
	Kick() <-chan struct{}
}

// Load is how many requests a node has in flight on a row.
type Load struct {
	Service    string
	Number     int
	Generation uint64
	InFlight   int
}

// Report is what a node says of itself.
type Report struct {
	Applied uint64 // index its state has reached
	Serving uint64 // index of the table its proxy serves from
	Loads   []Load
}

// Peers asks other nodes.
type Peers interface {
	Report(ctx context.Context, node string) (Report, error)
	// ProbeFrom asks a node to probe a row itself.
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
	AddNonvoter(ctx context.Context, id, addr string) error
	AddVoter(ctx context.Context, id, addr string) error
	Remove(ctx context.Context, id string) error
	Transfer(ctx context.Context, to string) error
}

// Config of control.
type Config struct {
	Node     string
	Interval time.Duration // between two polls of a container; a second
	// DialAddr is where this node reaches a row.
	DialAddr func(v *fsm.State, row fsm.Container) string
	Now      func() int64   // stamp, ms
	Jitter   func() float64 // 0 to 1
	Logger   *slog.Logger
}

// Limits of control.
const (
	// maxProbes at once: each is a goroutine and a connection.
	maxProbes = 64
	// maxActions of one pass: a cluster that restarts does it in steps, and a
	// wrong plan is seen before it is done.
	maxActions = 64
	// proposeTimeout bounds one command; the next pass proposes again.
	proposeTimeout = 3 * time.Second
	// startProbe is the time between probes of a container that has not answered
	// yet: short against its start of about 0.2 s.
	startProbe = 30 * time.Millisecond
)

// Control of one node; it acts only while that node leads.
type Control struct {
	cfg     Config
	views   Views
	prop    Proposer
	members Members
	peers   Peers
	voters  Voters
	prober  *prober
	suspect chan suspicion
	wake    chan struct{}
}

type suspicion struct {
	service    string
	number     int
	generation uint64
}

// New returns a control; Run starts it.
func New(cfg Config, views Views, prop Proposer, members Members, peers Peers, voters Voters) *Control {
	return &Control{
		cfg: cfg, views: views, prop: prop, members: members, peers: peers, voters: voters,
		prober: newProber(), suspect: make(chan suspicion, 256), wake: make(chan struct{}, 1),
	}
}

// Suspect has a row probed at once. It never blocks; what does not fit is found
// by the next poll.
func (c *Control) Suspect(service string, number int, generation uint64) {
	select {
	case c.suspect <- suspicion{service, number, generation}:
	default:
	}
}

// errLost ends a term whose leadership is gone.
var errLost = errors.New("leadership lost")

// Run leads whenever leadership says so, until ctx ends. A second true without a
// false between means that leadership was lost and regained: a new term.
func (c *Control) Run(ctx context.Context, leadership <-chan bool) error {
	defer c.prober.close()
	var cancel context.CancelCauseFunc
	var ended chan struct{}
	stop := func() {
		if cancel != nil {
			cancel(errLost)
			<-ended
			cancel = nil
		}
	}
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case leads := <-leadership:
			stop()
			if !leads {
				continue
			}
			cancel, ended = c.begin(ctx)
		}
	}
}

// begin starts a term; ended is closed when all of it has returned.
func (c *Control) begin(ctx context.Context) (cancel context.CancelCauseFunc, ended chan struct{}) {
	term, cancel := context.WithCancelCause(ctx)
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		c.lead(term)
	}()
	return cancel, ended
}

// lead is one term. A loop that fails ends it and moves leadership elsewhere.
func (c *Control) lead(ctx context.Context) {
	log := c.cfg.Logger
	log.Info("leading")
	err := c.term(ctx)
	if ctx.Err() != nil {
		log.Info("no longer leading", "reason", context.Cause(ctx))
		return
	}
	log.Error("term ended by a fault; leadership moves", "reason", err)
	move, cancel := context.WithTimeout(context.WithoutCancel(ctx), proposeTimeout)
	defer cancel()
	if err := c.voters.Transfer(move, ""); err != nil {
		log.Error("leadership not moved", "reason", err)
	}
}

func (c *Control) term(ctx context.Context) error {
	if err := c.prop.Barrier(ctx); err != nil {
		return fmt.Errorf("barrier: %w", err)
	}
	watch := newHealth()
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"health", func(ctx context.Context) error { return c.poll(ctx, watch) }},
		{"reconcile", func(ctx context.Context) error { return c.reconcile(ctx, watch) }},
		{"drain", c.drain},
		{"nodes", c.nodes},
	} {
		g.Go(func() error {
			if err := l.run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("loop %s: %w", l.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Action is one command and why.
type Action struct {
	Command fsm.Command
	Reason  string
}

// do proposes actions in order. A refusal means that the table has moved on: the
// next pass sees it. Only the loss of leadership ends the pass.
func (c *Control) do(ctx context.Context, actions []Action) {
	for _, a := range actions[:min(len(actions), maxActions)] {
		ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
		_, err := c.prop.Propose(ctx, a.Command)
		cancel()
		if err != nil {
			c.cfg.Logger.Debug("action not accepted", "command", fmt.Sprintf("%T", a.Command), "why", a.Reason, "reason", err)
		}
	}
}

func (c *Control) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
