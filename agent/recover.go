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
	n.ask(ctx, p.Members)
	p.Refused = refused(p)
	if i := slices.IndexFunc(members, func(m consensus.Member) bool { return m.ID == me.NodeID }); i < 0 && p.Refused == "" {
		p.Refused = "this node is not in the configuration that it holds: recover one that is, and this one is taken in again"
	}
	return p, nil
}

func (n *Node) holds() api.Holding {
	term, index := n.raft.Holds()
	return api.Holding{Term: term, Index: index, Applied: n.raft.Status().Applied}
}

// ask fills in what the other members hold; one that does not answer is lost.
func (n *Node) ask(ctx context.Context, members []api.Survivor) {
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
			m.Answers = err == nil && r.Node == m.ID
			m.Holds = api.Holding{Term: r.LastTerm, Index: r.LastIndex, Applied: r.AppliedIndex}
		})
	}
	wg.Wait()
}

// refused says why a cluster must not be recovered here.
func refused(p api.Recovery) string {
	if p.Leader != "" {
		return fmt.Sprintf("node %s leads: the cluster has its quorum, and nothing is to be recovered", p.Leader)
	}
	voters, answering := 1, 1
	best := p.Holds
	where := p.Node
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
	}
	switch {
	case answering*2 > voters:
		return fmt.Sprintf("%d of %d voters answer, which is a quorum: they elect a leader by themselves; 'orchctl status' on each says what hinders them", answering, voters)
	case where != p.Node:
		return fmt.Sprintf("node %s holds more (term %d, index %d): run 'orchctl recover' there", where, best.Term, best.Index)
	}
	return ""
}

// Recover implements api.Recoverer. It may be repeated.
func (n *Node) Recover(ctx context.Context, o api.RecoverOrder, by string) (api.Recovery, error) {
	n.entering.Lock()
	defer n.entering.Unlock()
	p, err := n.Recovery(ctx)
	if err != nil {
		return p, err
	}
	switch {
	case p.Refused != "":
		return p, fmt.Errorf("%w: %s", api.ErrBad, p.Refused)
	case o.ClusterID != p.ClusterID || o.Term != p.Holds.Term || o.Index != p.Holds.Index:
		return p, fmt.Errorf("%w: cluster %s, term %d, index %d is not what this node holds (cluster %s, term %d, index %d): look again with 'orchctl recover'",
			api.ErrBad, o.ClusterID, o.Term, o.Index, p.ClusterID, p.Holds.Term, p.Holds.Index)
	}
	// First the epoch, on disk: where this is cut off, others that come back stand
	// aside, and the command can be given again.
	p.Epoch++
	if err := n.enterEpoch(p.Epoch); err != nil {
		return p, err
	}
	n.log.Warn("recovering the cluster from this node alone", "cluster", p.ClusterID, "term", p.Holds.Term, "index", p.Holds.Index, "epoch", p.Epoch)
	// Then the other survivors, before there is a leader who could give them a vote.
	var lost []string
	for i, m := range p.Members {
		if m.Answers && n.follows(ctx, m.ID, api.FollowOrder{ClusterID: p.ClusterID, Node: p.Node, Epoch: p.Epoch}) {
			continue
		}
		p.Members[i].Answers = false
		lost = append(lost, m.ID)
	}
	n.relayed.Store(nil)
	if err := n.raft.Recover(ctx, fsm.NewStore()); err != nil {
		return p, err
	}
	n.announceEpoch(p.Epoch)
	for _, id := range lost {
		if err := n.leaveBehind(ctx, id); err != nil {
			return p, err
		}
	}
	what := fmt.Sprintf("recovered on %s from term %d, index %d; left behind: %s", p.Node, p.Holds.Term, p.Holds.Index, strings.Join(lost, ", "))
	err = n.untilLeading(ctx, fsm.Note{ID: fmt.Sprintf("recover-%d", p.Epoch), What: "cluster-recovered", Node: p.Node, Reason: what, By: by})
	return p, err
}

// followTries: an answer that was lost is no reason to leave a survivor behind.
const followTries = 3

func (n *Node) follows(ctx context.Context, id string, o api.FollowOrder) bool {
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
	case o.ClusterID != me.ClusterID:
		return fmt.Errorf("%w: this node is in cluster %q, not in %q", api.ErrBad, me.ClusterID, o.ClusterID)
	case o.Epoch <= me.Epoch:
		return nil // it does already
	case leader != "":
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
	n.mu.Lock()
	defer n.mu.Unlock()
	next := n.member
	next.Epoch = epoch
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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		}
		list := n.gossip.Load()
		if list == nil {
			continue
		}
		for _, m := range list.Members() {
			if m.Meta.Epoch > n.epoch() {
				n.outcast.Store(true)
				n.raft.Exclude(fmt.Sprintf("the cluster was recovered without this node (node %s says so): stop orchd, move %s away, start it and join anew", m.ID, n.cfg.DataDir))
				return nil
			}
		}
	}
}
