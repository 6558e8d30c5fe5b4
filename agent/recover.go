package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"orch/agent/api"
	"orch/agent/consensus"
	"orch/agent/membership"
	"orch/fsm"
)

// Recovery implements api.Recoverer: what this disk holds, and who else answers.
func (n *Node) Recovery(ctx context.Context) (api.Recovery, error) {
	n.mu.Lock()
	me := n.member
	n.mu.Unlock()
	if me.ClusterID == "" {
		return api.Recovery{}, fmt.Errorf("%w: there is nothing to recover", api.ErrNotMember)
	}
	v := n.view()
	p := api.Recovery{ClusterID: me.ClusterID, Node: me.NodeID, Epoch: me.Epoch, Services: len(v.Services), Rows: len(v.Containers)}
	p.Leader, _ = n.raft.Leader()
	p.Holds = n.holds()
	members, err := n.raft.Members()
	if err != nil {
		return p, err
	}
	for _, m := range members {
		if m.ID != me.NodeID {
			p.Members = append(p.Members, api.Survivor{ID: m.ID, Addr: m.Addr, Voter: m.Voter})
		}
	}
	goesOn := n.ask(ctx, p.Members)
	self := slices.IndexFunc(members, func(m consensus.Member) bool { return m.ID == me.NodeID })
	switch {
	case goesOn != "":
		p.Refused = fmt.Sprintf("node %s answers that this node has left: the cluster goes on without it; move the data folder away and join anew", goesOn)
	default:
		p.Refused = refused(p, n.raft.Fenced(), self >= 0 && members[self].Voter)
	}
	if self < 0 && p.Refused == "" {
		p.Refused = "this node is not in the configuration that it holds: recover one that is, and this one is taken in again"
	}
	return p, nil
}

func (n *Node) holds() api.Holding {
	term, index := n.raft.Holds()
	return api.Holding{Term: term, Index: index, Applied: n.raft.Status().Applied}
}

// ask fills in what the other members hold; one that does not answer is lost. One that
// answers that this node is out of the cluster is not lost at all: its ID is returned.
func (n *Node) ask(ctx context.Context, members []api.Survivor) (goesOn string) {
	var mu sync.Mutex
	ctx, cancel := context.WithTimeout(ctx, probeInterval)
	defer cancel()
	var wg sync.WaitGroup
	for i := range members {
		m := &members[i]
		wg.Go(func() {
			c, err := n.peers.of(m.ID)
			if err != nil {
				return
			}
			r, err := c.Report(ctx)
			if errors.Is(err, api.ErrLeft) || errors.Is(err, api.ErrRemoved) {
				mu.Lock()
				goesOn = m.ID
				mu.Unlock()
			}
			m.Answers, m.Leader = err == nil && r.Node == m.ID, r.Leader
			m.Holds = api.Holding{Term: r.LastTerm, Index: r.LastIndex, Applied: r.AppliedIndex}
		})
	}
	wg.Wait()
	return goesOn
}

// refused says why a cluster must not be recovered here; fenced: this node's disk takes
// no writes; votes: it is a voter.
func refused(p api.Recovery, fenced, votes bool) string {
	switch {
	case p.Leader != "":
		return fmt.Sprintf("node %s leads: the cluster has its quorum, and nothing is to be recovered", p.Leader)
	case fenced:
		return fmt.Sprintf("the disk of node %s takes no writes, as 'orchctl status' there says: free space on it or mend it, then run 'orchctl recover' again", p.Node)
	}
	voters, answering := 0, 0
	if votes {
		voters, answering = 1, 1
	}
	best := p.Holds
	where, led := p.Node, api.Survivor{}
	for _, m := range p.Members {
		if m.Voter {
			voters++
			if m.Answers {
				answering++
			}
		}
		if m.Answers && best.Less(m.Holds) {
			best, where = m.Holds, m.ID
		}
		if m.Answers && m.Leader != "" && m.Leader != p.Node { // that this node leads it has not noticed to be over
			led = m
		}
	}
	switch {
	case answering*2 > voters:
		return fmt.Sprintf("%d of %d voters answer, which is a quorum: they elect a leader by themselves; 'orchctl status' on each says what hinders them", answering, voters)
	case led.ID != "":
		return fmt.Sprintf("node %s follows node %s, which leads: the cluster may have its quorum where this node does not hear it; if node %s was lost a moment ago, look again with 'orchctl recover'", led.ID, led.Leader, led.Leader)
	case where != p.Node:
		return fmt.Sprintf("node %s holds more (term %d, index %d): run 'orchctl recover' there", where, best.Term, best.Index)
	}
	return ""
}

// recoverLimit bounds what is written to the table after a recovery: an election of one
// node, and an entry for each node that was lost.
const recoverLimit = 20 * time.Second

// Recover implements api.Recoverer. It begins with a note on this node's disk that says
// what is meant, and counts from the moment at which Raft's own disk says the same.
// Cut off before that it has changed nothing, and the old cluster goes on where its
// majority comes back; cut off after it, this node is the cluster, and says so to
// everybody, from its next start on at the latest.
func (n *Node) Recover(ctx context.Context, o api.RecoverOrder, by string) (api.Recovery, error) {
	n.entering.Lock()
	defer n.entering.Unlock()
	p, err := n.Recovery(ctx)
	switch {
	case err != nil:
		return p, err
	case ctx.Err() != nil: // those that were not asked in time are not lost
		return p, fmt.Errorf("nothing was recovered: %w", context.Cause(ctx))
	case p.Refused != "":
		return p, fmt.Errorf("%w: %s", api.ErrBad, p.Refused)
	case o.ClusterID != p.ClusterID || o.Term != p.Holds.Term || o.Index != p.Holds.Index:
		return p, fmt.Errorf("%w: cluster %s, term %d, index %d is not what this node holds (cluster %s, term %d, index %d): look again with 'orchctl recover'",
			api.ErrBad, o.ClusterID, o.Term, o.Index, p.ClusterID, p.Holds.Term, p.Holds.Index)
	}
	ctx, cancel := n.outlive(ctx)
	defer cancel()
	p.Epoch = nextEpoch(p.Epoch, n.clock.now())
	const next = "nothing was changed, and a majority that comes back goes on as before: mend this, then give 'orchctl recover' again"
	if err := n.amend(func(id *identity) { id.Recovering = p.Epoch }); err != nil {
		return p, fmt.Errorf("%w; %s", err, next)
	}
	n.log.Warn("recovering the cluster from this node alone", "cluster", p.ClusterID, "term", p.Holds.Term, "index", p.Holds.Index, "epoch", p.Epoch)
	recovered := false
	err = n.raft.Recover(ctx, fsm.NewStore(), func() {
		recovered = true
		n.recovered(p.Epoch)
		// There must not be a leader yet who could give them a vote.
		n.gather(ctx, p)
	})
	if !recovered {
		if left := n.amend(func(id *identity) { id.Recovering = 0 }); left != nil {
			n.log.Warn("the note of a recovery that did not come to pass stays until the next start", "reason", left)
		}
		return p, fmt.Errorf("%w; %s", err, next)
	}
	n.announceEpoch(p.Epoch)
	return p, n.record(ctx, p, by, err)
}

// record writes into the table what was recovered, and who is lost; err is what went
// wrong before.
func (n *Node) record(ctx context.Context, p api.Recovery, by string, err error) error {
	ctx, cancel := context.WithTimeout(ctx, recoverLimit)
	defer cancel()
	var lost []string
	for _, m := range p.Members {
		if !m.Answers {
			lost = append(lost, m.ID)
			err = errors.Join(err, n.leaveBehind(ctx, m.ID))
		}
	}
	what := fmt.Sprintf("recovered on %s from term %d, index %d; left behind: %s", p.Node, p.Holds.Term, p.Holds.Index, strings.Join(lost, ", "))
	err = errors.Join(err, n.untilLeading(ctx, fsm.Note{ID: fmt.Sprintf("recover-%d", p.Epoch), What: "cluster-recovered", Node: p.Node, Reason: what, By: by}))
	if err != nil {
		return fmt.Errorf("node %s is the cluster now, but not all of that is in its table: %w; when 'orchctl status' there names it as the leader, 'orchctl remove' takes out each node that is lost", p.Node, err)
	}
	return nil
}

// nextEpoch is the number of a recovery at a time in ms. Two survivors that are recovered
// without each other start from one number: of the two clusters the later one's is higher,
// and the other stands aside when they hear of each other.
func nextEpoch(last uint64, now int64) uint64 { return max(last+1, uint64(now)) }

// outlive is for work that must not stop half-way: it goes on when the request that asked
// for it has ended, and ends with this node.
func (n *Node) outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(n.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// recovered notes that Raft's disk is of this recovery. Where node.json takes no writes it
// is so all the same, and the next start finds it out.
func (n *Node) recovered(epoch uint64) {
	if err := n.enterEpoch(epoch); err != nil {
		n.log.Error("the recovery is not in "+identityFile+" yet; writing it is tried again each second", "reason", err)
		n.mu.Lock()
		n.member.Epoch = epoch // with Recovering as it is: see rewrite
		n.mu.Unlock()
	}
	n.relayed.Store(nil)
}

// finishRecovery decides, before anybody is spoken to, about a recovery that was cut off:
// Raft is on its disk alone if, and only if, it had come to pass.
func (n *Node) finishRecovery() error {
	if n.member.Recovering == 0 {
		return nil
	}
	alone, err := n.startedAlone()
	if err != nil {
		return err
	}
	epoch := n.member.Epoch
	if alone {
		epoch = n.member.Recovering
		n.log.Warn("a recovery was cut off when this node had become the cluster; 'orchctl remove' takes out each node that is lost", "epoch", epoch)
	} else {
		n.log.Warn("a recovery was cut off before it had changed anything; where the majority is still lost, give 'orchctl recover' again")
	}
	if err := n.enterEpoch(epoch); err != nil {
		n.log.Warn("what became of a recovery that was cut off is not written down yet; that is tried again", "reason", err)
		n.member.Epoch, n.member.Recovering = epoch, epoch
	}
	return nil
}

// rewrite writes down a recovery that has come to pass, where the disk did not take it: when
// this node starts anew it may not be alone any more, and would take it for one that had not.
func (n *Node) rewrite() {
	n.mu.Lock()
	epoch, due := n.member.Epoch, n.member.Recovering != 0 && n.member.Recovering == n.member.Epoch
	n.mu.Unlock()
	if due && n.enterEpoch(epoch) == nil {
		n.log.Info("the recovery is in "+identityFile+" now", "epoch", epoch)
	}
}

const (
	// followTries: an answer that was lost is no reason to leave a survivor behind.
	followTries = 3
	// followTimeout bounds all tries at one survivor, of which none may keep the others
	// waiting for ever. To stop its Raft may take a message's time-out, 10 s in the wan profile.
	followTimeout = 15 * time.Second
)

// gather has the survivors follow, all at once. One that does not is lost as well.
func (n *Node) gather(ctx context.Context, p api.Recovery) {
	var wg sync.WaitGroup
	for i := range p.Members {
		m := &p.Members[i]
		wg.Go(func() {
			m.Answers = m.Answers && n.follows(ctx, m.ID, api.FollowOrder{ClusterID: p.ClusterID, Node: p.Node, Epoch: p.Epoch})
		})
	}
	wg.Wait()
}

func (n *Node) follows(ctx context.Context, id string, o api.FollowOrder) bool {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	c, err := n.peers.of(id)
	for try := 0; c != nil && try < followTries; try++ {
		if err = c.Follow(ctx, o); err == nil {
			return true
		}
	}
	n.log.Warn("a survivor does not follow, and is left behind", "member", id, "reason", err)
	return false
}

// leaveBehind notes a lost member as left: it may come back as a new one only.
func (n *Node) leaveBehind(ctx context.Context, id string) error {
	for {
		m, ok := n.store.View().Node(id)
		if !ok || m.Status == fsm.NodeLeft {
			return nil
		}
		err := n.untilLeading(ctx, fsm.SetNodeStatus{ID: id, Seen: m.Index, Status: fsm.NodeLeft, Reason: "lost, and left behind when the cluster was recovered"})
		if !errors.Is(err, fsm.ErrStale) {
			return err
		}
	}
}

// Follow implements api.Recoverer: this node's log may hold what the recovered one's
// does not, and it has no say in which counts.
func (n *Node) Follow(ctx context.Context, o api.FollowOrder) error {
	n.entering.Lock()
	defer n.entering.Unlock()
	n.mu.Lock()
	me := n.member
	n.mu.Unlock()
	switch leader, _ := n.raft.Leader(); {
	case ctx.Err() != nil: // who asked has left this node behind meanwhile
		return context.Cause(ctx)
	case o.ClusterID != me.ClusterID:
		return fmt.Errorf("%w: this node is in cluster %q, not in %q", api.ErrBad, me.ClusterID, o.ClusterID)
	case o.Epoch == me.Epoch:
		return nil // it does already
	case o.Epoch < me.Epoch:
		return fmt.Errorf("%w: this node is of a later recovery of the cluster than that of node %s: 'orchctl status' here says which node leads", api.ErrBad, o.Node)
	case leader != "" && leader != o.Node: // that one leads no more, or would not ask
		return fmt.Errorf("%w: node %s leads here: this cluster has a quorum and needs no recovery", api.ErrBad, leader)
	}
	n.relayed.Store(nil)
	aside, err := n.raft.Forget(ctx)
	if err != nil {
		return err
	}
	n.log.Warn("following a recovered cluster; the log was set aside", "recovered", o.Node, "epoch", o.Epoch, "folder", aside)
	if err := n.enterEpoch(o.Epoch); err != nil {
		return err
	}
	n.announceEpoch(o.Epoch)
	return nil
}

// enterEpoch writes down which recovery this node is of.
func (n *Node) enterEpoch(epoch uint64) error {
	return n.amend(func(id *identity) { id.Epoch, id.Recovering = epoch, 0 })
}

// amend changes what this node knows itself by, on disk first.
func (n *Node) amend(change func(*identity)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.member
	change(&next)
	if err := n.folder.saveIdentity(next); err != nil {
		return err
	}
	n.member = next
	return nil
}

func (n *Node) epoch() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.member.Epoch
}

// announceEpoch tells by gossip, so that a node that was left behind stands aside.
func (n *Node) announceEpoch(epoch uint64) {
	list := n.gossip.Load()
	if list == nil {
		return
	}
	meta := n.meta()
	meta.Epoch = epoch
	if err := list.SetMeta(meta); err != nil {
		n.log.Warn("others do not hear of the recovery", "reason", err)
	}
}

// standsAside ends this node's part in decisions when gossip tells that the cluster
// was recovered without it: its log may hold what the others never heard of, and a
// majority of such nodes could else go on as if nothing had been.
func (n *Node) standsAside(ctx context.Context) error {
	poll := time.NewTicker(probeInterval)
	defer poll.Stop()
	var aside uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
		n.rewrite()
		list := n.gossip.Load()
		if list == nil {
			continue
		}
		var newest membership.Member
		for _, m := range list.Members() {
			if m.Meta.Epoch >= newest.Meta.Epoch {
				newest = m
			}
		}
		aside = n.standAside(aside, newest.ID, newest.Meta.Epoch)
	}
}

// standAside judges by the newest recovery that gossip tells of, and who does. aside is
// the one for which this node stands aside, 0 for none; it returns what that is now. A
// survivor may hear of a recovery from another one before it is asked to follow itself.
func (n *Node) standAside(aside uint64, who string, heard uint64) uint64 {
	if !n.entering.TryLock() {
		return aside // it may be about to follow that very recovery; the next look comes
	}
	defer n.entering.Unlock()
	switch own := n.epoch(); {
	case heard > own:
		n.outcast.Store(true)
		if n.raft.Exclude(fmt.Sprintf("the cluster was recovered without this node (node %s says so): stop orchd, move %s away, start it and join anew", who, n.cfg.DataDir)) || aside != 0 {
			return max(aside, heard)
		}
	case aside != 0 && own >= aside:
		n.raft.Include("it is of that recovery now")
		n.outcast.Store(false)
		return 0
	}
	return aside
}
