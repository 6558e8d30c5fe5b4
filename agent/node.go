package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"orch/agent/backup"
	"orch/agent/consensus"
	"orch/agent/control"
	"orch/agent/firewall"
	"orch/agent/membership"
	"orch/agent/worker"
	"orch/fsm"
	"orch/proxy"
)

// Node is one running orchd: every room, wired by hand.
type Node struct {
	cfg    Config
	log    *slog.Logger
	folder *folder
	store  *fsm.Store
	clock  *clock
	trust  *trust
	last   *fsm.State // what this node served before its restart, or nil
	// relayed is the leader's table while the log does not bring it, else nil.
	relayed atomic.Pointer[relayed]

	raft     *consensus.Node
	stable   time.Duration                     // of the profile: how long a new member keeps up before it votes
	gossip   atomic.Pointer[membership.List]   // nil until this node is in a cluster
	firewall atomic.Pointer[firewall.Firewall] // nil until this node is in a cluster, and where it is off
	worker   *worker.Worker
	control  *control.Control
	proxy    *proxy.Proxy
	peers    *peers
	suspects *suspects
	refusals *refusals
	backups  *backup.Schedule // nil where no place for snapshot files is configured

	entering sync.Mutex // one init or join at a time
	mu       sync.Mutex
	member   identity // zero until this node is in a cluster
	joined   chan struct{}
	serving  atomic.Bool // its public port is open
	stopping atomic.Bool
	outcast  atomic.Bool // the cluster goes on without it
	images   interface {
		ImageID(ctx context.Context, image string) (string, error)
	}
	// leaving ends the node's run after it has left the cluster.
	leaving context.CancelCauseFunc
	// life ends when this node is to stop: for work that outlives the request for it.
	life context.Context
}

// errLeft ends Run without an error: the node has left its cluster.
var errLeft = errors.New("this node has left its cluster")

// machine is the replicated state as consensus drives it: the store, and the
// clock that follows the stamps.
type machine struct {
	*fsm.Store
	clock *clock
	// replayed is the last term of the log at the start: entries up to it are of
	// an earlier life.
	replayed atomic.Uint64
}

func (m *machine) Apply(index, term uint64, data []byte) any {
	result := m.Store.Apply(index, term, data)
	m.clock.observe(m.View().Stamp, term > m.replayed.Load(), time.Now())
	return result
}

// Propose commits a command: here when this node leads, else through the leader,
// in one hop. It retries nothing; commands may be proposed again.
func (n *Node) Propose(ctx context.Context, c fsm.Command) (any, error) {
	if id, _ := n.raft.Leader(); id == n.cfg.NodeID {
		return n.ProposeHere(ctx, c)
	}
	return n.peers.propose(ctx, c)
}

func (n *Node) proposeHere(ctx context.Context, c fsm.Command) (any, error) {
	data, err := fsm.Encode(n.clock.now(), c)
	if err != nil {
		return nil, err
	}
	result, _, err := n.raft.Propose(ctx, data)
	return result, err
}

// Barrier returns once every command committed before has been applied here.
func (n *Node) Barrier(ctx context.Context) error { return n.raft.Barrier(ctx) }

// self is this node as the table shows it.
func (n *Node) self() fsm.Node {
	c := n.cfg
	return fsm.Node{ID: c.NodeID, Addr: c.Addr, APIAddr: c.APIAddr, RaftAddr: c.RaftAddr, GossipAddr: c.GossipAddr, ProxyAddr: c.ProxyAddr, Version: c.Version, Key: n.trust.key()}
}

// clusterID is empty until this node is in a cluster.
func (n *Node) clusterID() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.member.ClusterID
}

// become makes this node a member for good: identity on disk first.
func (n *Node) become(id identity) error {
	if err := n.folder.saveIdentity(id); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.member = id
	close(n.joined)
	return nil
}

// view is the newest table this node knows: the replicated one, or until that
// has caught up the one it served before its restart.
func (n *Node) view() *fsm.State {
	v := n.committed()
	if n.last != nil && n.last.Changed > v.Changed {
		return n.last
	}
	return v
}

// caughtUp waits until this node has applied all that was committed when it
// asked the leader.
func (n *Node) caughtUp(ctx context.Context) error {
	for {
		index, err := n.peers.leaderApplied(ctx)
		if err == nil {
			return n.until(ctx, func(v *fsm.State) bool { return v.Applied >= index })
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("catch up with the leader: %w", context.Cause(ctx))
		case <-time.After(caughtUpInterval):
		}
	}
}

// caughtUpInterval is the wait between questions to a leader that is not there
// yet: a third of the lan profile's election.
const caughtUpInterval = 100 * time.Millisecond
