package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// job is work on Raft itself, which only the watching goroutine stops and starts.
type job struct {
	do   func() error
	done chan error // 1-buffered
}

// atWatch has the watching goroutine run f, and waits for its end. Where ctx ends before
// f is taken on, f does not run.
func (n *Node) atWatch(ctx context.Context, f func() error) error {
	j := job{do: f, done: make(chan error, 1)}
	select {
	case n.jobs <- j:
	case <-n.watched:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-j.done:
		return err
	case <-n.watched:
		return ErrClosed
	}
}

// Holds is the term and index of the newest entry on this node's disk, committed or
// not. Of several nodes the one that holds most, term first, is the one to Recover.
func (n *Node) Holds() (term, index uint64) {
	r := n.raft.Load()
	term, err := strconv.ParseUint(r.Stats()["last_log_term"], 10, 64)
	if err != nil {
		return 0, r.LastIndex()
	}
	return term, r.LastIndex()
}

// Recover makes this node the only voter, for a cluster that has lost its quorum for
// good. Everything on its disk counts as committed from now on, also entries that
// never were; what only the lost nodes had is lost. Readers of the Machine go on
// meanwhile. scratch is an empty Machine, which is thrown away.
//
// before is called once that is on disk, and Raft starts when it has returned. Where it is
// not called nothing has changed, and where it is there is no way back, whatever the error.
//
// It must be called on one node of a cluster only. The others must Forget before they
// are heard again.
func (n *Node) Recover(ctx context.Context, scratch Machine, before func()) error {
	err := n.atWatch(ctx, func() error {
		n.gate.hold()
		defer n.gate.release()
		if err := n.halt("it is recovered"); err != nil {
			return err
		}
		last := n.raft.Load().LastIndex()
		c := n.raftConfig()
		c.NoSnapshotRestoreOnStart = false // scratch knows nothing yet
		err := n.layStores()
		if err == nil {
			// Every entry is wanted here, whatever the newest snapshot holds: where that
			// can not be read, an older one is taken.
			whole := &logStore{disk: n.raw, fence: n.fence, pace: n.pace, replaced: func(uint64) (uint64, bool) { return 0, false }}
			err = raft.RecoverCluster(c, &machine{Machine: scratch}, whole, n.stable, n.snaps, n.trans, raft.Configuration{Servers: []raft.Server{{
				Suffrage: raft.Voter, ID: raft.ServerID(n.cfg.ID), Address: n.trans.LocalAddr(),
			}}})
		}
		if err != nil && !n.recoveredFrom(last) {
			return errors.Join(err, n.startAgain("it could not be recovered"))
		}
		before()
		return errors.Join(err, n.startAgain("recovered: this node was made the only voter"))
	})
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return nil
}

// recoveredFrom says whether a snapshot of entry last, or of a later one, has this node
// alone in its configuration. RecoverCluster is done when that snapshot has its name; it
// may fail after that, for it goes on to remove what is older.
func (n *Node) recoveredFrom(last uint64) bool {
	snap, err := n.snaps.newest()
	return err == nil && snap != nil && snap.Index >= last && len(snap.Configuration.Servers) == 1 &&
		snap.Configuration.Servers[0].ID == raft.ServerID(n.cfg.ID)
}

// Forget sets the log, the votes and the snapshots aside, into a folder whose path it
// returns, and starts empty: a node in no cluster, which a leader may add. Readers
// of the Machine see its last state until that leader sends another.
func (n *Node) Forget(ctx context.Context) (aside string, err error) {
	err = n.atWatch(ctx, func() error {
		n.gate.hold()
		defer n.gate.release()
		if err := n.halt("it forgets its log"); err != nil {
			return err
		}
		err := n.setAside(&aside)
		return errors.Join(err, n.startAgain("its log was set aside in "+aside))
	})
	if err != nil {
		return aside, fmt.Errorf("forget the log: %w", err)
	}
	return aside, nil
}

// Exclude shuts this node's Raft connections until Include: the cluster goes on without
// it. It does so once, and says whether it was this time.
func (n *Node) Exclude(reason string) bool {
	w := &n.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.excluded != nil {
		return false
	}
	w.excluded = &Impairment{What: "excluded", Reason: reason, Since: time.Now()}
	n.gate.hold()
	n.log.Error("excluded: this node takes no part in decisions any more", "reason", reason)
	return true
}

// Include takes Exclude back. The node must have forgotten its log since, or have been
// recovered: what it was excluded for must not be heard.
func (n *Node) Include(reason string) {
	w := &n.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.excluded != nil {
		w.excluded = nil
		n.gate.release()
		n.log.Info("no longer excluded: this node takes part in decisions again", "reason", reason)
	}
}

func (n *Node) halt(why string) error {
	if n.fence.isUp() {
		_, reason, _ := n.fence.state()
		return fmt.Errorf("%w (%s)", ErrFenced, reason)
	}
	w := &n.watching
	if w.stopped == "" {
		n.log.Warn("stopping raft inside the process", "reason", why)
		w.raftLeads, w.latched = false, false
		w.hearAgain()
		n.announce(false)
		if err := n.raft.Load().Shutdown().Error(); err != nil {
			n.log.Warn("stop raft", "reason", err)
		}
	}
	return nil
}

// startAgain starts Raft on what the disk now has; where it can not, watch tries on.
func (n *Node) startAgain(why string) error {
	w := &n.watching
	if err := n.freshStart(); err != nil {
		w.stopped = why
		return err
	}
	w.stopped = ""
	w.transfer.note(nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cure = &Impairment{What: "restarted", Reason: why, Since: time.Now()}
	return nil
}

func (n *Node) setAside(aside *string) error {
	n.exchange.Lock()
	defer n.exchange.Unlock()
	if err := n.bolt.Close(); err != nil {
		return err
	}
	to, err := os.MkdirTemp(n.cfg.Dir, "set-aside-")
	if err != nil {
		return errors.Join(err, n.reopen())
	}
	*aside = to
	names := []string{dbFile, snapshotFolder}
	for i, name := range names {
		if err := os.Rename(filepath.Join(n.cfg.Dir, name), filepath.Join(to, name)); err != nil {
			for _, moved := range names[:i] { // half of it is no log
				err = errors.Join(err, os.Rename(filepath.Join(to, moved), filepath.Join(n.cfg.Dir, moved)))
			}
			return errors.Join(err, n.reopen())
		}
	}
	if err := errors.Join(syncFolder(to), createDB(n.cfg.Dir)); err != nil {
		return err
	}
	return n.reopen()
}

// reopen opens raft.db and the snapshots after they were exchanged.
func (n *Node) reopen() (err error) {
	if n.bolt, err = openDB(n.cfg.Dir); err != nil {
		return err
	}
	n.raw = n.bolt
	if n.cfg.wrapDisk != nil {
		n.raw = n.cfg.wrapDisk(n.bolt)
	}
	if n.snaps, err = openSnapshots(n.cfg.Dir, n.hclog); err != nil {
		return err
	}
	return n.layStores()
}
