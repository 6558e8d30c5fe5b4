package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"orch/fsm"
)

// roll is the loop that keeps the table of nodes and Raft's configuration in step
// with who is there.
type roll struct {
	*term
	missing map[string]time.Time // since when gossip has not known a node of the table
	targets map[string]uint64    // index a non-voter must have reached to get its vote
	failing string               // the last change of members that failed
}

// sighting is what is known of a node in one pass.
type sighting struct {
	Gossip string        // alive, suspect, dead, left or absent
	For    time.Duration // how long it has said so; absent: in this term
	// Answers: its API answers; asked only where gossip does not say what the table
	// says.
	Answers bool
}

func newRoll(t *term) *roll {
	return &roll{term: t, missing: map[string]time.Time{}, targets: map[string]uint64{}}
}

func (r *roll) run(ctx context.Context) error { return r.every(ctx, r.members.Kick, r.pass) }

func (r *roll) pass(ctx context.Context) (time.Duration, error) {
	v := r.views.View()
	if err := r.do(ctx, planNodes(v, r.cfg.Node, r.look(ctx, v))); err != nil {
		return 0, err
	}
	changed, err := r.step(ctx)
	switch {
	case changed:
		return quickProbe, err // the next step may follow
	case len(r.targets) > 0:
		return catchUpInterval, err // somebody waits for a vote
	}
	return r.cfg.Interval, err
}

// look asks gossip about every node, and the node itself where gossip brings news.
func (r *roll) look(ctx context.Context, v *fsm.State) map[string]sighting {
	now := time.Now()
	says := map[string]Member{}
	for _, m := range r.members.Members() {
		says[m.ID] = m
		delete(r.missing, m.ID)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := make(map[string]sighting, len(v.Nodes))
	for _, n := range v.Nodes {
		m, known := says[n.ID]
		switch {
		case n.ID == r.cfg.Node:
			m, known = Member{Status: "alive", Since: now}, true
		case known:
		case r.missing[n.ID].IsZero():
			r.missing[n.ID] = now
			fallthrough
		default:
			m = Member{Status: "absent", Since: r.missing[n.ID]}
		}
		s := sighting{Gossip: m.Status, For: now.Sub(m.Since), Answers: n.ID == r.cfg.Node}
		if s.Answers || n.Status == fsm.NodeLeft || !s.news(n.Status) {
			mu.Lock()
			out[n.ID] = s
			mu.Unlock()
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reportTimeout)
			defer cancel()
			_, err := r.peers.Report(ctx, n.ID)
			s.Answers = err == nil
			mu.Lock()
			defer mu.Unlock()
			out[n.ID] = s
		})
	}
	wg.Wait()
	return out
}

// news says whether gossip tells something of a node that the table does not have,
// and that needs a second witness.
func (s sighting) news(status fsm.NodeStatus) bool {
	switch s.Gossip {
	case "alive":
		return status == fsm.NodeDead
	case "suspect":
		return false
	}
	return status != fsm.NodeDead
}

// step makes one change of Raft's members, if any is due. One that fails is tried
// again with the next pass; it is logged once.
func (r *roll) step(ctx context.Context) (changed bool, err error) {
	v := r.views.View()
	list, err := r.voters.Voters()
	if err != nil {
		r.failed(ctx, "read the list of voters", err)
		return false, nil
	}
	c, ok := planVoters(v, list, r.caughtUp(ctx, v, list), r.cfg)
	if !ok {
		r.failing = ""
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	switch c.do {
	case addNonvoter:
		err = r.voters.AddNonvoter(ctx, c.node, c.addr)
	case addVoter:
		err = r.voters.AddVoter(ctx, c.node, c.addr)
	case remove:
		err = r.voters.Remove(ctx, c.node)
	case transfer:
		err = r.voters.Transfer(ctx, c.node)
	case setLeft:
		n, _ := v.Node(c.node)
		return true, r.do(ctx, []Action{{fsm.SetNodeStatus{ID: n.ID, Seen: n.Index, Status: fsm.NodeLeft, Reason: c.reason}, c.reason}})
	}
	if err != nil {
		r.failed(ctx, fmt.Sprintf("%s %s", c.do, c.node), err)
		return false, nil
	}
	r.failing = ""
	r.cfg.Logger.Info("members changed", "change", string(c.do), "member", c.node, "reason", c.reason)
	return true, nil
}

func (r *roll) failed(ctx context.Context, what string, err error) {
	if what != r.failing && ctx.Err() == nil {
		r.cfg.Logger.Warn("members not changed; trying again", "change", what, "reason", err)
	}
	r.failing = what
}

// caughtUp asks the alive non-voters how far they are. One has caught up when it
// has reached what had been committed when it was first asked.
func (r *roll) caughtUp(ctx context.Context, v *fsm.State, list []Voter) map[string]bool {
	out, old := map[string]bool{}, r.targets
	r.targets = map[string]uint64{}
	for _, m := range list {
		n, ok := v.Node(m.ID)
		if m.Voter || !ok || n.Status != fsm.NodeAlive {
			continue
		}
		r.targets[m.ID] = old[m.ID]
		if old[m.ID] == 0 {
			r.targets[m.ID] = v.Applied
		}
		ctx, cancel := context.WithTimeout(ctx, reportTimeout)
		report, err := r.peers.Report(ctx, m.ID)
		cancel()
		out[m.ID] = err == nil && report.Applied >= r.targets[m.ID]
	}
	return out
}
