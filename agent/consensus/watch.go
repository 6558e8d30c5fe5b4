package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// watchInterval is how often the node looks after itself. It costs a few
	// atomic reads.
	watchInterval = 100 * time.Millisecond
	// slowInterval is how often it does what reads the disk or sorts samples.
	slowInterval = 2 * time.Second
	// transferElections is how many election time-outs a transfer of leadership
	// may refuse commands; one time-out to send, one to wait, the rest for luck.
	transferElections = 10
	// cureShown is how long Status tells of a fault that has been cured.
	cureShown = time.Hour
	// maxTrailing bounds the log kept for others: a million commands are about
	// 200 MiB of raft.db.
	maxTrailing = 1 << 20
)

// watcher is what the watching goroutine knows. Only what others read is locked.
type watcher struct {
	raftLeads bool // Raft's own word
	latched   bool // a fence has ended this leadership; it needs a proof
	proving   chan error

	trailing  uint64
	rateIndex uint64
	rateAt    time.Time
	calmAt    time.Time // since when fewer commands come than the reserve is made for
	stopped   string    // why Raft was stopped, while it does not start again

	transfer refusals
	observer *raft.Observer
	observed chan raft.Observation

	mu   sync.Mutex
	slow *Impairment
	cure *Impairment
	// excluded: the cluster goes on without this node; see Exclude.
	excluded *Impairment
	silent   map[string]silence // peers whose heartbeats fail
	// leaderless is since when no leader is heard; zero while one is.
	leaderless time.Time
}

// refusals notes since when every request is refused for a transfer of
// leadership.
type refusals struct {
	mu    sync.Mutex
	since time.Time
}

func (r *refusals) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !errors.Is(err, raft.ErrLeadershipTransferInProgress):
		r.since = time.Time{}
	case r.since.IsZero():
		r.since = time.Now()
	}
}

func (r *refusals) lasting(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.since.IsZero() {
		return 0
	}
	return now.Sub(r.since)
}

func (w *watcher) impaired() []Impairment {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []Impairment
	if w.excluded != nil {
		all = append(all, *w.excluded)
	}
	if w.slow != nil {
		all = append(all, *w.slow)
	}
	if w.cure != nil && time.Since(w.cure.Since) < cureShown {
		all = append(all, *w.cure)
	}
	return all
}

// watch is the node's one goroutine: it turns Raft's word and the fence into
// Leadership, and looks for the faults of Raft that only a fresh start cures.
func (n *Node) watch(ctx context.Context) {
	defer close(n.watched)
	w := &n.watching
	w.trailing, w.rateAt = n.cfg.Timings.TrailingLogs, time.Now()
	tick, slow := time.NewTicker(watchInterval), time.NewTicker(slowInterval)
	defer tick.Stop()
	defer slow.Stop()
	n.checkPace()
	for {
		select {
		case <-ctx.Done():
			n.announce(false)
			n.raft.Load().DeregisterObserver(w.observer)
			if w.proving != nil {
				<-w.proving
			}
			return
		case leads := <-n.raft.Load().LeaderCh():
			w.raftLeads, w.latched = leads, leads && n.fence.isUp()
			w.hearAgain() // of another term, or none of ours
			n.announce(leads && !w.latched)
		case <-n.fence.poke:
			if n.fence.isUp() && w.raftLeads {
				w.latched = true
				n.announce(false)
			}
		case o := <-w.observed:
			w.heartbeat(o, time.Now())
		case err := <-w.proving:
			w.proving = nil
			if err == nil && w.latched && !n.fence.isUp() && n.raft.Load().State() == raft.Leader {
				w.latched = false
				n.announce(true)
			}
		case j := <-n.jobs:
			j.done <- j.do()
		case <-tick.C:
			n.prove(ctx)
			n.checkTransfer()
			n.Leaderless() // notes when it begins, though nobody asks
			w.lapse(time.Now(), silenceLimit(n.cfg.Timings))
		case <-slow.C:
			n.checkPace()
			n.checkTrailing(time.Now())
			n.checkConflict()
			if w.stopped != "" {
				n.restart(w.stopped)
			}
		}
	}
}

// announce tells the reader of Leadership; an older value that it has not read
// is replaced.
func (n *Node) announce(leads bool) {
	if !leads && !n.leading.Load() {
		return
	}
	n.leading.Store(leads)
	select {
	case <-n.leadership:
	default:
	}
	n.leadership <- leads // only watch sends, so there is room
}

// prove asks for a commit when a fence has been lifted and Raft still thinks
// that it leads: nobody else was elected, and the term may go on.
func (n *Node) prove(ctx context.Context) {
	w := &n.watching
	r := n.raft.Load()
	if !w.latched || w.proving != nil || n.fence.isUp() || r.State() != raft.Leader {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, enqueueLimit)
	w.proving = make(chan error, 1)
	go func() {
		defer cancel()
		w.proving <- n.Barrier(ctx)
	}()
}

// Leaderless is since when this node hears no leader; zero while it hears one. While it
// is fenced it hears nobody, though Raft, whose loop waits for the disk, names the last
// one on. Each call looks anew: who was told that a leader is there finds it here too.
func (n *Node) Leaderless() time.Time {
	id, _ := n.Leader()
	if n.fence.isUp() {
		id = ""
	}
	w := &n.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case id != "":
		w.leaderless = time.Time{}
	case w.leaderless.IsZero():
		w.leaderless = time.Now()
	}
	return w.leaderless
}

// checkPace says when heartbeats may wait behind writes for longer than the
// time-outs allow.
func (n *Node) checkPace() {
	p, limit := n.pace.p999(), n.cfg.Timings.Heartbeat/paceFactor
	w := &n.watching
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case p > limit && w.slow == nil:
		w.slow = &Impairment{What: "slow disk", Since: time.Now(), Reason: fmt.Sprintf(
			"one in a thousand appends takes %v or more, and a heartbeat time-out of %v wants under %v; use a faster disk, or --profile cloud",
			p.Round(time.Millisecond), n.cfg.Timings.Heartbeat, limit)}
		n.log.Warn("slow disk", "reason", w.slow.Reason)
	case p <= limit && w.slow != nil:
		w.slow = nil
		n.log.Info("disk is fast enough again")
	}
}

// checkTrailing keeps as many commands for followers that were away as the
// cluster commits in trailingTime, when that is more than the profile says. After a
// burst the reserve halves each trailingTime, so that the log shrinks again.
func (n *Node) checkTrailing(now time.Time) {
	w := &n.watching
	r := n.raft.Load()
	index := r.LastIndex()
	elapsed := now.Sub(w.rateAt)
	if w.rateIndex > 0 && index >= w.rateIndex && elapsed > 0 {
		want := min(uint64(float64(index-w.rateIndex)*float64(trailingTime)/float64(elapsed)), maxTrailing)
		if w.trailing < want || w.calmAt.IsZero() {
			w.calmAt = now
		}
		// Below a quarter more it is noise.
		change := want > w.trailing+w.trailing/4
		if shrink := now.Sub(w.calmAt) >= trailingTime; shrink && !change {
			want = max(want, w.trailing/2, n.cfg.Timings.TrailingLogs)
			change = want < w.trailing
			w.calmAt = now
		}
		if change && n.cfg.Timings.TrailingLogs >= minScaledTrailing {
			c := r.ReloadableConfig()
			c.TrailingLogs = want
			if err := r.ReloadConfig(c); err == nil {
				w.trailing = want
			}
		}
	}
	w.rateIndex, w.rateAt = index, now
}

// minScaledTrailing is the smallest reserve that is scaled: a shorter one is
// from no profile, and was meant to be short.
const minScaledTrailing = 1000

// checkTransfer cures a leader that refuses everything because a transfer of
// leadership was interrupted and its mark was never taken back
// (hashicorp/raft#696): only a fresh start clears it.
func (n *Node) checkTransfer() {
	r := n.raft.Load()
	refused := n.watching.transfer.lasting(time.Now())
	if refused < transferElections*n.cfg.Timings.Election || r.State() != raft.Leader || n.fence.isUp() {
		return
	}
	n.restart(fmt.Sprintf("a transfer of leadership that never ended refused every command for %v", refused.Round(time.Millisecond)))
}

// checkConflict cures a follower whose log disagrees with its newest snapshot:
// see dropConflict.
func (n *Node) checkConflict() {
	if n.fence.isUp() || n.watching.stopped != "" {
		return
	}
	snap, err := n.snaps.newest()
	if err != nil || snap == nil {
		return // listing is logged by the store itself
	}
	if conflict, err := hasConflict(n.raw, snap); err != nil || !conflict {
		return
	}
	n.restart(fmt.Sprintf("entry %d of the log is not the one in snapshot %s", snap.Index, snap.ID))
}

// restart runs a fresh Raft on the same stores, transport and machine. Readers
// of the machine notice nothing: what it has applied is not applied again.
func (n *Node) restart(reason string) {
	n.gate.hold()
	defer n.gate.release()
	w := &n.watching
	again := w.stopped != ""
	if err := n.halt(reason); err != nil {
		return // fenced since it was looked at; the next look comes
	}
	if err := n.startAgain(reason); err != nil && !again {
		n.log.Error("raft does not start again; it is tried until it does", "reason", err)
	}
}

func (n *Node) freshStart() error {
	snap, err := n.snaps.newest()
	if err != nil {
		return err
	}
	if _, err := dropConflict(n.raw, snap); err != nil {
		return err
	}
	if snap != nil && snap.Index > n.machine.applied.Load() {
		if err := restoreInto(n.machine, n.cfg.Dir, snap); err != nil {
			return err
		}
	}
	n.machine.replayed.Store(0)
	// The cache may hold what has been dropped.
	if err := n.layStores(); err != nil {
		return err
	}
	return n.start()
}
