package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/fsm"
)

// ProposeHere commits a command only if this node leads.
func (n *Node) ProposeHere(ctx context.Context, c fsm.Command) (any, error) {
	result, err := n.proposeHere(ctx, c)
	return result, byConsensus(err)
}

// byConsensus gives an error of consensus its meaning for who asks.
func byConsensus(err error) error {
	switch {
	case errors.Is(err, consensus.ErrNotLeader), errors.Is(err, consensus.ErrFenced), errors.Is(err, consensus.ErrBusy), errors.Is(err, consensus.ErrClosed):
		return fmt.Errorf("%w: %w", api.ErrNoLeader, err)
	case errors.Is(err, consensus.ErrUnknown):
		return fmt.Errorf("%w: %w", api.ErrUnknown, err)
	case errors.Is(err, consensus.ErrMember):
		return fmt.Errorf("%w: %w", api.ErrBad, err)
	}
	return err
}

// Leave has this node's containers made elsewhere, then takes it out of the cluster
// and ends its daemon.
func (n *Node) Leave(ctx context.Context, by string) error {
	v := n.committed()
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
	voters, why, err := n.judge(ctx, v)
	if err != nil {
		return err
	}
	if lost := lacking(voters, why, self.ID); lost != "" {
		return fmt.Errorf("%w: without this node's vote the others would have no majority, for %s: start or mend what is lost, or take it out with 'orchctl remove', then leave", api.ErrBad, lost)
	}
	_, err = n.Propose(ctx, fsm.SetNodeStatus{ID: self.ID, Seen: self.Index, Status: fsm.NodeDraining, Reason: "it was told to leave", By: by})
	return err
}

// Transfer moves leadership.
func (n *Node) Transfer(ctx context.Context, to, by string) error {
	if by != "" { // first, for the leader that could commit it goes
		c := fsm.Note{What: "transfer-asked", Node: to, Reason: "leadership is to move", By: by}
		if _, err := n.Propose(ctx, c); err != nil {
			return err
		}
	}
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
	row, ok := n.committed().Container(r.Service, r.Number)
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
	for _, row := range n.committed().Rows(q.Service) {
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
func (f *folder) setAside(clusterID string) (string, error) {
	to, err := os.MkdirTemp(f.dir, "left-"+clusterID[:min(8, len(clusterID))]+"-")
	if err != nil {
		return "", fmt.Errorf("set the left cluster's data aside: %w", err)
	}
	for _, name := range append([]string{identityFile, viewFile, "raft.db", "snapshots"}, secretFiles...) {
		err := os.Rename(filepath.Join(f.dir, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("set the left cluster's data aside: %w", err)
		}
	}
	return to, nil
}
