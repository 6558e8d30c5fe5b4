package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"orch/agent/api"
	"orch/agent/control"
	"orch/fsm"
)

// peers asks other nodes, over one connection pool. A node's address is that of the
// table, so a node that moved is found again.
type peers struct {
	node      *Node
	transport *http.Transport

	mu      sync.Mutex
	clients map[string]*api.Client // by API address
}

// peerDial bounds a connection to another node, handshake and all: a lost host answers nothing at all.
const peerDial = 500 * time.Millisecond

func newPeers(n *Node) *peers {
	return &peers{node: n, clients: map[string]*api.Client{}, transport: &http.Transport{
		DialContext:         n.dialPeer,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     30 * time.Second,
	}}
}

// dialPeer connects to the node that the table has at an address, by TLS.
func (n *Node) dialPeer(ctx context.Context, _, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, peerDial)
	defer cancel()
	return n.trust.dial(ctx, addr, nodeAt(n.known(), addr))
}

// nodeAt is the node that the table has at an API address, or empty. One that is dead may
// have lost its address to another, and is meant only where there is no other.
func nodeAt(nodes []fsm.Node, addr string) string {
	id := ""
	for _, o := range nodes {
		switch {
		case o.APIAddr != addr || o.Status == fsm.NodeLeft:
		case o.Status != fsm.NodeDead:
			return o.ID
		default:
			id = o.ID
		}
	}
	return id
}

func (p *peers) close() { p.transport.CloseIdleConnections() }

func (p *peers) at(addr string) *api.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.clients[addr]
	if c == nil {
		c = api.NewClient(addr, p.transport)
		p.clients[addr] = c
	}
	return c
}

func (p *peers) of(id string) (*api.Client, error) {
	n, ok := p.node.view().Node(id)
	if !ok {
		return nil, fmt.Errorf("%w: %q", fsm.ErrNoSuchNode, id)
	}
	return p.at(n.APIAddr), nil
}

// leader returns a client of the leader, when that is another node.
func (p *peers) leader() (*api.Client, error) {
	id := p.node.leader()
	if id == "" {
		return nil, fmt.Errorf("%w is known to node %s", api.ErrNoLeader, p.node.cfg.NodeID)
	}
	if id == p.node.cfg.NodeID {
		return nil, fmt.Errorf("%w: node %s has just become it; try again", api.ErrNoLeader, id)
	}
	if c, err := p.of(id); err == nil {
		return c, nil
	}
	// This node has not caught up with its own table yet: those it was told of when
	// it joined will do.
	for _, n := range p.node.known() {
		if n.ID == id {
			return p.at(n.APIAddr), nil
		}
	}
	return nil, fmt.Errorf("%w: the address of node %s is not known here yet", api.ErrNoLeader, id)
}

func (p *peers) propose(ctx context.Context, c fsm.Command) (any, error) {
	leader, err := p.leader()
	if err != nil {
		return nil, err
	}
	turn, err := leader.Propose(ctx, c)
	err = reached(err)
	if _, takes := c.(fsm.TakeTurns); !takes || err != nil {
		return nil, err
	}
	return turn, nil
}

// reached gives an error of the way to the leader its meaning: one that can not be
// connected to is none, and nothing was written; one that was cut off may have written.
func reached(err error) error {
	var answered *api.Error
	if err == nil || errors.As(err, &answered) {
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%w: the last one does not answer: %w", api.ErrNoLeader, err)
	}
	return fmt.Errorf("%w: %w", api.ErrUnknown, err)
}

// leaderApplied is the index that the leader has applied.
func (p *peers) leaderApplied(ctx context.Context) (uint64, error) {
	if id, _ := p.node.raft.Leader(); id == p.node.cfg.NodeID {
		if err := p.node.raft.Barrier(ctx); err != nil {
			return 0, err
		}
		return p.node.store.View().Applied, nil
	}
	leader, err := p.leader()
	if err != nil {
		return 0, err
	}
	r, err := leader.Report(ctx)
	return r.AppliedIndex, err
}

// report is what a node says of itself.
func (p *peers) report(ctx context.Context, id string) (api.Report, error) {
	if id == p.node.cfg.NodeID {
		return p.node.Report(), nil
	}
	c, err := p.of(id)
	if err != nil {
		return api.Report{}, err
	}
	r, err := c.Report(ctx)
	if err == nil && r.Node != id {
		err = fmt.Errorf("node %q answers at the address of %q", r.Node, id)
	}
	return r, err
}

// Report implements control.Peers.
func (p *peers) Report(ctx context.Context, id string) (control.Report, error) {
	r, err := p.report(ctx, id)
	out := control.Report{Applied: r.AppliedIndex, Serving: r.ServingIndex, Fenced: r.Fenced, NoLeader: r.NoLeader}
	for _, l := range r.InFlight {
		out.Loads = append(out.Loads, control.Load(l))
	}
	return out, err
}

// ProbeFrom implements control.Peers.
func (p *peers) ProbeFrom(ctx context.Context, id string, row fsm.Container) error {
	c, err := p.of(id)
	if err != nil {
		return err
	}
	healthy, reason, err := c.Probe(ctx, api.RowRef{Service: row.Service, Number: row.Number, Generation: row.Generation})
	if err == nil && !healthy {
		err = fmt.Errorf("%w: %s", control.ErrUnhealthy, reason)
	}
	return err
}

// suspects tells the leader of rows that failed a request, in the background.
type suspects struct {
	node  *Node
	queue chan api.RowRef
}

// maxSuspects waiting to be told; what is dropped is found by the leader's own poll.
const maxSuspects = 64

func newSuspects(n *Node) *suspects { return &suspects{n, make(chan api.RowRef, maxSuspects)} }

// Suspect implements proxy.Suspects.
func (s *suspects) Suspect(service string, number int, generation uint64, reason string) {
	select {
	case s.queue <- api.RowRef{Service: service, Number: number, Generation: generation}:
		s.node.log.Debug("container suspected", "service", service, "number", number, "reason", reason)
	default:
	}
}

// tellTimeout bounds one word to the leader; after a second its poll has been there.
const tellTimeout = time.Second

func (s *suspects) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case ref := <-s.queue:
			if id, _ := s.node.raft.Leader(); id == s.node.cfg.NodeID {
				s.node.Suspect(ref)
				continue
			}
			if leader, err := s.node.peers.leader(); err == nil {
				ctx, cancel := context.WithTimeout(ctx, tellTimeout)
				leader.Suspect(ctx, ref) // a hint: nothing is lost without it
				cancel()
			}
		}
	}
}
