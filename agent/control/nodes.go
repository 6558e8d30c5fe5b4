package control

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"orch/fsm"
)

// roll is the loop that keeps the table of nodes and Raft's configuration in step
// with who is there.
type roll struct {
	*term
	missing map[string]time.Time // since when gossip has not known a node of the table
	forms   map[string]*form     // of Raft's members, while a change of them is due
	failing map[string]bool      // changes of members that have failed, by what they are
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
	return &roll{term: t, missing: map[string]time.Time{}, failing: map[string]bool{}}
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
	case len(r.forms) > 0:
		return catchUpInterval, err // a change waits for members to be fit
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

// step makes one change of Raft's members, if any is due. One that fails is logged
// once, and tried again after the others.
func (r *roll) step(ctx context.Context) (changed bool, err error) {
	v := r.views.View()
	list, err := r.voters.Voters()
	if err != nil {
		r.failed(ctx, "read the list of voters", err)
		return false, nil
	}
	if !r.due(v, list) { // members are asked only when it matters
		r.forms, r.failing = nil, map[string]bool{}
		return false, nil
	}
	plan := planVoters(v, list, r.assess(ctx, v, list), r.cfg)
	slices.SortStableFunc(plan, func(a, b change) int { return compareBool(r.failing[a.name()], r.failing[b.name()]) })
	for _, c := range plan {
		err := r.change(ctx, v, c)
		if err == nil {
			delete(r.failing, c.name())
			r.cfg.Logger.Info("members changed", "change", string(c.do), "member", c.node, "reason", c.reason)
			return true, nil
		}
		r.failed(ctx, c.name(), err)
	}
	return false, nil
}

// due says whether there would be something to do if every member were fit.
func (r *roll) due(v *fsm.State, list []Voter) bool {
	return len(planVoters(v, list, everybody(list), r.cfg)) > 0
}

func (r *roll) change(ctx context.Context, v *fsm.State, c change) error {
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	switch c.do {
	case addNonvoter:
		return r.voters.AddNonvoter(ctx, c.node, c.addr)
	case addVoter:
		return r.voters.AddVoter(ctx, c.node, c.addr)
	case remove:
		return r.voters.Remove(ctx, c.node)
	case transfer:
		return r.voters.Transfer(ctx, c.node)
	}
	n, _ := v.Node(c.node)
	done, err := r.propose(ctx, Action{fsm.SetNodeStatus{ID: n.ID, Seen: n.Index, Status: fsm.NodeLeft, Reason: c.reason}, c.reason})
	if err == nil && !done {
		err = errUncommitted
	}
	return err
}

var errUncommitted = errors.New("not committed")

func (r *roll) failed(ctx context.Context, what string, err error) {
	if !r.failing[what] && ctx.Err() == nil {
		r.cfg.Logger.Warn("members not changed; trying again", "change", what, "reason", err)
	}
	r.failing[what] = true
}
