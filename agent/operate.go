package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/fsm"
)

// ProposeHere commits a command only if this node leads.
func (n *Node) ProposeHere(ctx context.Context, c fsm.Command) (any, error) {
	result, err := n.proposeHere(ctx, c)
	switch {
	case errors.Is(err, consensus.ErrNotLeader), errors.Is(err, consensus.ErrFenced), errors.Is(err, consensus.ErrBusy), errors.Is(err, consensus.ErrClosed):
		return nil, fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	case errors.Is(err, consensus.ErrUnknown):
		return nil, fmt.Errorf("%w: %w", api.ErrUnknown, err)
	}
	return result, err
}

// Init makes a cluster of this one node.
func (n *Node) Init(ctx context.Context) (api.Admission, error) {
	n.entering.Lock()
	defer n.entering.Unlock()
	if id := n.clusterID(); id != "" {
		return api.Admission{}, fmt.Errorf("%w: %s; 'orchctl nodes' shows who is in it", api.ErrMember, id)
	}
	if !n.raft.HasState() { // else an init that was cut off is finished
		if err := n.raft.Bootstrap(ctx); err != nil {
			return api.Admission{}, fmt.Errorf("make the cluster: %w", err)
		}
	}
	id := newClusterID()
	for _, c := range []fsm.Command{fsm.InitCluster{ClusterID: id}, fsm.PutNode{Node: n.self()}} {
		err := n.untilLeading(ctx, c)
		if errors.Is(err, fsm.ErrForeign) { // the ID of the init that was cut off
			id, err = n.store.View().ClusterID, nil
		}
		if err != nil {
			return api.Admission{}, fmt.Errorf("make the cluster: %w", err)
		}
	}
	if err := n.become(identity{ClusterID: id, NodeID: n.cfg.NodeID, Peers: []fsm.Node{n.self()}}); err != nil {
		return api.Admission{}, err
	}
	return api.Admission{ClusterID: id, Nodes: n.store.View().Nodes}, nil
}

func (n *Node) untilLeading(ctx context.Context, c fsm.Command) error {
	for {
		_, err := n.ProposeHere(ctx, c)
		if !errors.Is(err, api.ErrNoLeader) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Join has the cluster of the node at addr take this node in. It may be repeated.
func (n *Node) Join(ctx context.Context, addr string) (api.Admission, error) {
	n.entering.Lock()
	defer n.entering.Unlock()
	if id := n.clusterID(); id != "" {
		return api.Admission{}, fmt.Errorf("%w: %s; to move it, let it leave first ('orchctl leave')", api.ErrMember, id)
	}
	if host, _, err := net.SplitHostPort(addr); err != nil || net.ParseIP(host) == nil {
		return api.Admission{}, fmt.Errorf("%w: address %q: give the API of a node of the cluster as IP:PORT, for example 10.0.0.1:%d", api.ErrBad, addr, PortAPI)
	}
	if alone, err := n.startedAlone(); err != nil || alone {
		return api.Admission{}, errors.Join(err, fmt.Errorf("%w: an init was cut off here: finish it with 'orchctl init', or stop orchd and move %s away, then join", api.ErrMember, n.cfg.DataDir))
	}
	a, err := n.peers.at(addr).Admit(ctx, n.self())
	if err != nil {
		return api.Admission{}, fmt.Errorf("join: %w", err)
	}
	if err := n.become(identity{ClusterID: a.ClusterID, NodeID: n.cfg.NodeID, Peers: a.Nodes}); err != nil {
		return api.Admission{}, err
	}
	// The leader adds this node to Raft by itself, and gives it a vote when it has caught
	// up. Only then does the cluster outlive the loss of one more node.
	tick := time.NewTicker(joinInterval)
	defer tick.Stop()
	for {
		if _, ok := n.store.View().Node(n.cfg.NodeID); ok && n.raft.Status().Voter {
			return a, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return a, fmt.Errorf("admitted to cluster %s, but without a vote yet: can its leader reach %s? ('orchctl status' there says more; the vote comes by itself when it can)", a.ClusterID, n.cfg.RaftAddr)
		}
	}
}

// startedAlone says whether this node's log is that of a cluster of its own, which
// begins with a configuration of this node alone: in another cluster its entries would
// be taken for that one's. A log that has come from a leader names that leader.
func (n *Node) startedAlone() (bool, error) {
	members, err := n.raft.Members()
	if err != nil {
		return false, err
	}
	return n.raft.HasState() && len(members) == 1 && members[0].ID == n.cfg.NodeID, nil
}

// joinInterval is the time between two looks whether this node has a vote.
const joinInterval = 20 * time.Millisecond

// Admit takes a node into the cluster: into the table, whence the leader takes it
// into Raft.
func (n *Node) Admit(ctx context.Context, joiner fsm.Node) (api.Admission, error) {
	if n.clusterID() == "" {
		return api.Admission{}, fmt.Errorf("%w: run 'orchctl init' there, or name a node that is in one", api.ErrNotMember)
	}
	if _, err := n.Propose(ctx, fsm.PutNode{Node: joiner}); err != nil {
		return api.Admission{}, err
	}
	if c, err := n.withoutVote(ctx, joiner.ID); err != nil {
		return api.Admission{}, err
	} else if c != nil {
		a, err := c.Admit(ctx, joiner)
		return a, reached(err)
	}
	poke, end := n.store.Subscribe()
	defer end()
	for {
		v := n.store.View()
		if _, ok := v.Node(joiner.ID); ok {
			n.log.Info("node admitted", "joiner", joiner.ID, "addr", joiner.RaftAddr)
			return api.Admission{ClusterID: n.clusterID(), Nodes: v.Nodes}, nil
		}
		select {
		case <-poke:
		case <-ctx.Done():
			return api.Admission{}, fmt.Errorf("admit %s: %w", joiner.ID, context.Cause(ctx))
		}
	}
}

// withoutVote takes away the vote of a node that joins although it has one: it has lost
// its data, and with them what it voted for and what it had acknowledged. The leader
// alone can; on another node its client is returned.
func (n *Node) withoutVote(ctx context.Context, id string) (*api.Client, error) {
	members, err := n.raft.Members()
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.ID != id {
			continue
		}
		if leader, _ := n.raft.Leader(); leader != n.cfg.NodeID {
			return n.peers.leader()
		}
		n.log.Warn("a member joins anew: it begins without a vote", "joiner", id)
		return nil, n.raft.Remove(ctx, id)
	}
	return nil, nil
}

// Leave has this node's containers made elsewhere, then takes it out of the cluster
// and ends its daemon.
func (n *Node) Leave(ctx context.Context) error {
	v := n.store.View()
	self, ok := v.Node(n.cfg.NodeID)
	if !ok {
		return fmt.Errorf("%w", api.ErrNotMember)
	}
	others := 0
	for _, o := range v.Nodes {
		if o.ID != self.ID && o.Status == fsm.NodeAlive {
			others++
		}
	}
	if others == 0 {
		return fmt.Errorf("%w: no other node is alive to take over its containers: start or join one first", api.ErrBad)
	}
	_, err := n.Propose(ctx, fsm.SetNodeStatus{ID: self.ID, Seen: self.Index, Status: fsm.NodeDraining, Reason: "it was told to leave"})
	return err
}

// Transfer moves leadership.
func (n *Node) Transfer(ctx context.Context, to string) error {
	leader, _ := n.raft.Leader()
	switch leader {
	case to:
		if to != "" {
			return nil
		}
		return fmt.Errorf("%w is known to node %s", api.ErrNoLeader, n.cfg.NodeID)
	case n.cfg.NodeID:
		err := n.raft.Transfer(ctx, to)
		if errors.Is(err, consensus.ErrMember) {
			err = fmt.Errorf("%w: %w", api.ErrBad, err)
		}
		return err
	}
	c, err := n.peers.leader()
	if err != nil {
		return err
	}
	return reached(c.Transfer(ctx, to))
}

// Probe implements api.Peer.
func (n *Node) Probe(ctx context.Context, r api.RowRef) error {
	row, ok := n.store.View().Container(r.Service, r.Number)
	if !ok || row.Generation != r.Generation || row.Node != n.cfg.NodeID {
		return fmt.Errorf("%w: %s/%d generation %d on node %s", fsm.ErrNoSuchRow, r.Service, r.Number, r.Generation, n.cfg.NodeID)
	}
	return n.control.Probe(ctx, row)
}

// Suspect implements api.Peer.
func (n *Node) Suspect(r api.RowRef) { n.control.Suspect(r.Service, r.Number, r.Generation) }

// Logs implements api.Self: those of this node's containers, and by asking their
// owners those of the others.
func (n *Node) Logs(ctx context.Context, q api.LogQuery, w io.Writer) error {
	lines := &lineWriter{w: w}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, row := range n.store.View().Rows(q.Service) {
		if q.Number != 0 && q.Number != row.Number || q.Local && row.Node != n.cfg.NodeID {
			continue
		}
		wg.Go(func() {
			if err := n.rowLogs(ctx, q, row, lines); err != nil && ctx.Err() == nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("%s/%d on %s: %w", row.Service, row.Number, row.Node, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (n *Node) rowLogs(ctx context.Context, q api.LogQuery, row fsm.Container, lines *lineWriter) error {
	if row.Node == n.cfg.NodeID {
		out := lines.prefixed(fmt.Sprintf("%s/%d | ", row.Service, row.Number))
		defer out.flush()
		return n.worker.Logs(ctx, row.Service, row.Number, q.Follow, q.Tail, out)
	}
	c, err := n.peers.of(row.Node)
	if err != nil {
		return err
	}
	out := lines.prefixed("")
	defer out.flush()
	return c.Logs(ctx, api.LogQuery{Service: q.Service, Number: row.Number, Follow: q.Follow, Tail: q.Tail, Local: true}, out)
}

// lineWriter writes whole lines of several sources to one writer.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) prefixed(prefix string) *prefixWriter {
	return &prefixWriter{to: l, prefix: prefix}
}

// maxLine is the longest line that is kept together, in bytes.
const maxLine = 64 << 10

type prefixWriter struct {
	to     *lineWriter
	prefix string
	rest   []byte
}

func (p *prefixWriter) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 && len(p.rest) < maxLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(p.rest) - 1
		}
		if err := p.line(p.rest[:i+1]); err != nil {
			return 0, err
		}
		p.rest = p.rest[i+1:]
	}
}

func (p *prefixWriter) line(b []byte) error {
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	_, err := p.to.w.Write(append([]byte(p.prefix), b...))
	return err
}

func (p *prefixWriter) flush() {
	if len(p.rest) > 0 {
		p.line(append(p.rest, '\n')) // the reader is gone where this fails
	}
}

// setAside moves what this node kept of a cluster it has left into a folder beside,
// so that it can join anew and nothing is lost.
func (f *folder) setAside(clusterID string) error {
	to, err := os.MkdirTemp(f.dir, "left-"+clusterID[:min(8, len(clusterID))]+"-")
	if err != nil {
		return fmt.Errorf("set the left cluster's data aside: %w", err)
	}
	for _, name := range []string{identityFile, viewFile, "raft.db", "snapshots"} {
		err := os.Rename(filepath.Join(f.dir, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("set the left cluster's data aside: %w", err)
		}
	}
	return nil
}
