// Package consensus replicates a log of commands over the nodes of a cluster,
// with hashicorp/raft on raft-boltdb, and applies it to one Machine.
//
// It owns raft.db and the snapshots below its folder, the Raft connections, and
// the answer to who leads. It promises that what Propose reports as applied is
// on the disks of a majority, that a definite refusal never comes true later,
// and that a disk that is full, slow or failing costs this node its say but
// never the process. All methods may be called by any goroutine.
//
// It never bootstraps by itself, never decides who is a member, and knows
// nothing of what commands mean.
package consensus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// MaxCommand is the largest command: 64 KiB keeps a full append message of
	// maxAppend entries below 32 MiB.
	MaxCommand = 64 << 10
	// maxAppend is how many entries share one message and one fsync: with it,
	// 256 concurrent proposers reached 27,000 commands a second on two cores.
	maxAppend = 512
	// logCache is how many entries stay in memory for followers that are close.
	logCache = 1024
	// closeDrain bounds how long Close waits for proposals that are under way.
	closeDrain = 2 * time.Second
)

// Config is what a node needs to know.
type Config struct {
	ID      string  // of this node, for ever
	Addr    string  // host:port to listen on and to tell the others
	Layer   Layer   // carries the messages, by mutual TLS; nil is plain TCP on Addr, which is for loopback
	Dir     string  // folder of raft.db and snapshots, of this node alone
	Timings Timings // from Profile
	// StallLimit overrides Timings.Stall: a write to disk that takes longer
	// fences the node.
	StallLimit time.Duration
	Logger     *slog.Logger
	Registry   prometheus.Registerer // nil: no metrics

	wrapDisk func(disk) disk // tests put a disk with faults here
}

// Node is this node's part of the cluster's log.
type Node struct {
	cfg     Config
	log     *slog.Logger
	hclog   *hclogger
	machine *machine
	bolt    *raftboltdb.BoltStore
	raw     disk // bolt, or the tests' disk around it
	logs    raft.LogStore
	stable  raft.StableStore
	snaps   *snapshots
	gate    *gate
	fence   *fence
	pace    *pace
	trans   transport
	metrics *metrics

	raft     atomic.Pointer[raft.Raft]
	inflight inflight

	leadership chan bool // 1-buffered, the newest wins
	leading    atomic.Bool
	watching   watcher
	jobs       chan job
	exchange   sync.RWMutex // held while Forget exchanges the stores

	closing   sync.Once
	closeErr  error
	stopWatch context.CancelFunc
	watched   chan struct{}
	ended     chan struct{} // closed when nothing of the node runs any more
}

// Open verifies the folder, restores the state and starts. It refuses a damaged
// folder and one in use without touching it (ErrCorrupt, ErrInUse; the error
// names the file).
func Open(cfg Config, m Machine) (_ *Node, err error) {
	if cfg.StallLimit == 0 {
		cfg.StallLimit = cfg.Timings.Stall
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ID == "" || cfg.Dir == "" || cfg.StallLimit <= 0 || cfg.Timings.RPC <= 0 {
		return nil, errors.New("open raft: ID, Dir and Timings are required; take Timings from Profile")
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger.With("node", cfg.ID), machine: &machine{Machine: m},
		pace: &pace{}, leadership: make(chan bool, 1), watched: make(chan struct{}), ended: make(chan struct{}),
		jobs: make(chan job),
	}
	n.inflight.init()
	n.hclog = newHCLogger(n.log)
	if err := n.openFolder(); err != nil {
		return nil, fmt.Errorf("open raft store: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.bolt.Close())
		}
	}()
	layer := cfg.Layer
	if layer == nil {
		if layer, err = listenPlain(cfg.Addr); err != nil {
			return nil, err
		}
	}
	n.raw = n.bolt
	if cfg.wrapDisk != nil {
		n.raw = cfg.wrapDisk(n.bolt)
	}
	n.gate = newGate(streams{layer})
	n.fence = newFence(cfg.StallLimit, n.gate, n.log)
	if err := n.layStores(); err != nil {
		return nil, errors.Join(err, n.gate.Close())
	}
	n.trans = transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: n.gate, MaxPool: poolSize, Timeout: cfg.Timings.RPC, Logger: n.hclog.as("transport"),
		MaxRPCsInFlight: 1, // no pipeline: it can wedge for ever (hashicorp/raft#612)
	})}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.trans.NetworkTransport.Close())
	}
	n.pace.probe(n.raw)
	n.metrics = newMetrics(n)
	ctx, cancel := context.WithCancel(context.Background())
	n.stopWatch = cancel
	go n.watch(ctx)
	return n, nil
}

// openFolder verifies everything before it opens anything for writing.
func (n *Node) openFolder() error {
	if err := os.MkdirAll(n.cfg.Dir, 0o700); err != nil {
		return err
	}
	snap, err := verifySnapshots(n.cfg.Dir)
	if err != nil {
		return err
	}
	path := filepath.Join(n.cfg.Dir, dbFile)
	switch _, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist) && snap != nil:
		return damaged(path, "it is missing, but snapshot %s is there", snap.ID)
	case errors.Is(err, fs.ErrNotExist):
		if err := createDB(n.cfg.Dir); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	live, err := verifyDB(n.cfg.Dir, snap)
	if err != nil {
		return err
	}
	if snap != nil {
		if err := restoreInto(n.machine, n.cfg.Dir, snap); err != nil {
			return err
		}
	}
	if wantsCompaction(n.cfg.Dir, live) {
		if err := compactDB(n.cfg.Dir); err != nil {
			n.log.Warn("raft.db stays as large as it is", "reason", err)
		}
	}
	if n.bolt, err = openDB(n.cfg.Dir); err != nil {
		return err
	}
	if n.snaps, err = openSnapshots(n.cfg.Dir, n.hclog); err == nil {
		_, err = dropConflict(n.bolt, snap)
	}
	if err != nil {
		return errors.Join(err, n.bolt.Close())
	}
	return nil
}

// layStores puts fence, timing and cache around the disk.
func (n *Node) layStores() error {
	n.stable = &stableStore{disk: n.raw, fence: n.fence}
	var err error
	if n.logs, err = raft.NewLogCache(logCache, &logStore{disk: n.raw, fence: n.fence, pace: n.pace, replaced: n.replaced}); err != nil {
		return fmt.Errorf("open raft store: %w", err)
	}
	return nil
}

// replaced is the term of the entry at index, if the newest snapshot ends with it and is
// applied. A leader is not told: it sends the snapshot to who lacks that entry.
func (n *Node) replaced(index uint64) (term uint64, ok bool) {
	r := n.raft.Load()
	if r == nil || r.State() == raft.Leader || r.AppliedIndex() < index {
		return 0, false
	}
	snap, err := n.snaps.newest()
	if err != nil || snap == nil || snap.Index != index {
		return 0, false
	}
	return snap.Term, true
}

// start runs Raft on the stores. The machine already holds the newest snapshot.
func (n *Node) start() error {
	r, err := raft.NewRaft(n.raftConfig(), n.machine, n.logs, n.stable, n.snaps, n.trans)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	n.raft.Store(r)
	n.watching.observe(r)
	return nil
}

func (n *Node) raftConfig() *raft.Config {
	t := n.cfg.Timings
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.cfg.ID)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = t.Heartbeat, t.Election, t.LeaderLease
	c.CommitTimeout = t.Commit
	c.SnapshotInterval, c.SnapshotThreshold, c.TrailingLogs = t.SnapshotInterval, t.SnapshotThreshold, t.TrailingLogs
	c.MaxAppendEntries, c.BatchApplyCh = maxAppend, true
	// A node that is removed must go on serving and say so: it becomes a
	// follower that is in no configuration and starts no election.
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true // restored already, by openFolder or restart
	c.NoLegacyTelemetry = true
	c.Logger = n.hclog.as("raft")
	return c
}

// Addr is the address that the others dial.
func (n *Node) Addr() string { return string(n.trans.LocalAddr()) }

// HasState reports whether this node belongs to a cluster, or has heard of one.
func (n *Node) HasState() bool {
	n.exchange.RLock()
	defer n.exchange.RUnlock()
	has, err := raft.HasExistingState(n.raw, n.raw, n.snaps)
	return has || err != nil
}

// Bootstrap makes a cluster of which this node is the first voter. Only the
// command that makes clusters calls it: a second bootstrap would be a second
// cluster. It refuses (ErrHasState) when the folder holds any state.
func (n *Node) Bootstrap(ctx context.Context) error {
	if n.HasState() {
		return fmt.Errorf("make a cluster: %w: %s; choose an empty folder, or start the node as it is", ErrHasState, n.cfg.Dir)
	}
	err := n.await(ctx, func(r *raft.Raft) raft.Future {
		return r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{
			Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: n.trans.LocalAddr(),
		}}})
	})
	if errors.Is(err, raft.ErrCantBootstrap) {
		err = ErrHasState
	}
	if err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	return nil
}

// Close ends everything that Open started, or says what still runs when ctx
// ends: a write that hangs in the kernel cannot be recalled. It does not hand
// leadership over; Transfer does. Closing twice is closing once.
func (n *Node) Close(ctx context.Context) error {
	n.closing.Do(func() { n.closeErr = n.close(ctx) })
	return n.closeErr
}

func (n *Node) close(ctx context.Context) error {
	n.metrics.close()
	if n.fence.isUp() {
		n.fence.seal() // nothing under way can end before
	}
	drain, cancel := context.WithTimeout(ctx, closeDrain)
	n.inflight.close(drain)
	cancel()
	n.fence.seal()
	n.stopWatch()
	done := make(chan error, 1)
	go func() {
		defer close(n.ended)
		<-n.watched
		err := n.raft.Load().Shutdown().Error()
		err = errors.Join(err, n.trans.NetworkTransport.Close())
		done <- errors.Join(err, n.bolt.Close())
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("close raft: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close raft: a write to disk has not returned: %w", context.Cause(ctx))
	}
}
