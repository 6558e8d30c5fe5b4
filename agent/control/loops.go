package control

import (
	"context"
	"fmt"
	"time"

	"orch/fsm"
)

// reconcile turns observations and the table into commands: at once after either
// has changed, and each interval in any case.
func (c *Control) reconcile(ctx context.Context, h *health) error {
	poke, end := c.views.Subscribe()
	defer end()
	tick := time.NewTicker(c.cfg.Interval)
	defer tick.Stop()
	for {
		now := c.cfg.Now()
		v := c.views.View()
		c.do(ctx, planHealth(v, h.snapshot(), now, c.cfg.Jitter()))
		c.do(ctx, planScale(c.views.View(), now))
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-c.wake:
		case <-tick.C:
		case <-c.due(v, now):
		}
	}
}

// due fires when the next back-off ends before the next tick.
func (c *Control) due(v *fsm.State, now int64) <-chan time.Time {
	var next <-chan time.Time
	least := c.cfg.Interval.Milliseconds()
	for _, row := range v.Containers {
		if left := row.RetryAt - now; row.RetryAt != 0 && left >= 0 && left < least {
			least = left
			next = time.After(time.Duration(left+1) * time.Millisecond)
		}
	}
	return next
}

// drainInterval is the time between two looks at what is still in flight: short,
// for a scale-down ends with the last answer.
const drainInterval = 100 * time.Millisecond

// drain stops what nobody sends requests to any more.
func (c *Control) drain(ctx context.Context) error {
	poke, end := c.views.Subscribe()
	defer end()
	for {
		v := c.views.View()
		if draining(v) {
			c.do(ctx, planDrain(v, c.reports(ctx, v), c.cfg.Now()))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(drainInterval):
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		}
	}
}

func draining(v *fsm.State) bool {
	for _, row := range v.Containers {
		if row.Desired != fsm.Running {
			return true
		}
	}
	return false
}

// reportTimeout bounds the question to one node; one that does not answer holds
// up a drain until its deadline, or until it is known to be dead.
const reportTimeout = time.Second

func (c *Control) reports(ctx context.Context, v *fsm.State) map[string]Report {
	type answer struct {
		node string
		r    Report
		err  error
	}
	answers := make(chan answer)
	asked := 0
	for _, n := range v.Nodes {
		if n.Status == fsm.NodeDead || n.Status == fsm.NodeLeft {
			continue
		}
		asked++
		go func() {
			ctx, cancel := context.WithTimeout(ctx, reportTimeout)
			defer cancel()
			r, err := c.peers.Report(ctx, n.ID)
			answers <- answer{n.ID, r, err}
		}()
	}
	out := map[string]Report{}
	for range asked {
		if a := <-answers; a.err == nil {
			out[a.node] = a.r
		}
	}
	return out
}

// planDrain stops each draining row that every live node has let go of, or whose
// time is up, and forgets those whose node can not say that they have stopped.
func planDrain(v *fsm.State, reports map[string]Report, now int64) []Action {
	var plan []Action
	for _, row := range v.Containers {
		switch {
		case row.Desired == fsm.Running:
		case nodeGone(v, row.Node) && row.Desired == fsm.Stopped:
			plan = append(plan, Action{fsm.Forget{Row: row.Row(), Reason: "node " + row.Node + " is lost"}, "lost"})
		case row.Desired == fsm.Stopped:
		case now >= row.DrainDeadline:
			plan = append(plan, Action{fsm.Stop{Row: row.Row(), Reason: "its requests took longer than the drain allows"}, "deadline"})
		case released(v, row, reports):
			plan = append(plan, Action{fsm.Stop{Row: row.Row(), Reason: row.Reason}, "released"})
		}
	}
	return plan
}

// released: every live node serves from a table in which the row drains, and has
// nothing in flight on it.
func released(v *fsm.State, row fsm.Container, reports map[string]Report) bool {
	for _, n := range v.Nodes {
		if n.Status == fsm.NodeDead || n.Status == fsm.NodeLeft {
			continue
		}
		r, ok := reports[n.ID]
		if !ok || r.Serving < row.Index {
			return false
		}
		for _, l := range r.Loads {
			if l.Service == row.Service && l.Number == row.Number && l.InFlight > 0 {
				return false
			}
		}
	}
	return true
}

// nodes keeps the table of nodes and Raft's configuration in step with who is
// there.
func (c *Control) nodes(ctx context.Context) error {
	poke, end := c.views.Subscribe()
	defer end()
	tick := time.NewTicker(c.cfg.Interval)
	defer tick.Stop()
	for {
		v := c.views.View()
		members := c.members.Members()
		c.do(ctx, planNodes(v, members, c.unreachable(ctx, v, members), time.Now()))
		if err := c.voting(ctx, v); err != nil && ctx.Err() == nil {
			c.cfg.Logger.Debug("configuration not changed", "reason", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-tick.C:
		case <-c.members.Kick():
		}
	}
}

// unreachable asks those that gossip calls dead once more, over the API.
func (c *Control) unreachable(ctx context.Context, v *fsm.State, members []Member) map[string]bool {
	out := map[string]bool{}
	for _, m := range members {
		if m.Status != "dead" {
			continue
		}
		if n, ok := v.Node(m.ID); !ok || n.Status == fsm.NodeDead {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, reportTimeout)
		_, err := c.peers.Report(ctx, m.ID)
		cancel()
		out[m.ID] = err != nil
	}
	return out
}

// suspectFor is how long gossip must doubt a node before it is written down: one late
// answer is no news.
const suspectFor = time.Second

// planNodes writes down who is alive. Dead needs two witnesses: gossip, and a
// probe that failed too.
func planNodes(v *fsm.State, members []Member, unreachable map[string]bool, now time.Time) []Action {
	var plan []Action
	for _, m := range members {
		n, ok := v.Node(m.ID)
		if !ok || n.Status == fsm.NodeLeft || string(n.Status) == m.Status {
			continue
		}
		var next fsm.NodeStatus
		switch {
		case m.Status == "alive" && n.Status != fsm.NodeDraining:
			next = fsm.NodeAlive
		case m.Status == "suspect" && n.Status == fsm.NodeAlive && now.Sub(m.Since) >= suspectFor:
			next = fsm.NodeSuspect
		case m.Status == "dead" && unreachable[m.ID]:
			next = fsm.NodeDead
		default:
			continue
		}
		plan = append(plan, Action{fsm.SetNodeStatus{ID: n.ID, Seen: n.Index, Status: next, Reason: "gossip says " + m.Status}, m.Status})
	}
	return plan
}

// voting brings nodes of the table into Raft's configuration, one step a pass: as
// a non-voter first, as a voter when it has caught up; and takes out the one that
// leaves, once it has no rows.
func (c *Control) voting(ctx context.Context, v *fsm.State) error {
	list, err := c.voters.Voters()
	if err != nil {
		return err
	}
	have := map[string]Voter{}
	for _, m := range list {
		have[m.ID] = m
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	for _, n := range v.Nodes {
		m, in := have[n.ID]
		switch {
		case n.Status == fsm.NodeDraining && len(v.RowsOn(n.ID)) == 0:
			return c.part(ctx, n, in)
		case n.Status != fsm.NodeAlive:
		case !in || m.Addr != n.RaftAddr:
			return c.voters.AddNonvoter(ctx, n.ID, n.RaftAddr)
		case !m.Voter:
			r, err := c.peers.Report(ctx, n.ID)
			if err != nil {
				return err
			}
			if r.Applied < v.Applied {
				return fmt.Errorf("node %s has applied %d of %d", n.ID, r.Applied, v.Applied)
			}
			return c.voters.AddVoter(ctx, n.ID, n.RaftAddr)
		}
	}
	return nil
}

// part lets a node go: the table first, for with its vote it may lose the way to
// hear of it.
func (c *Control) part(ctx context.Context, n fsm.Node, in bool) error {
	if n.ID == c.cfg.Node {
		return c.voters.Transfer(ctx, "")
	}
	if _, err := c.prop.Propose(ctx, fsm.SetNodeStatus{ID: n.ID, Seen: n.Index, Status: fsm.NodeLeft, Reason: "left"}); err != nil {
		return err
	}
	if in {
		return c.voters.Remove(ctx, n.ID)
	}
	return nil
}

// note tells people of something that changes nothing.
func (c *Control) note(ctx context.Context, v *fsm.State, kind string, rows int) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	id := fmt.Sprintf("%s-%s-%d", kind, c.cfg.Node, v.Term)
	c.prop.Propose(ctx, fsm.Note{ID: id, What: kind, Node: c.cfg.Node, Reason: fmt.Sprintf("every container polled once by the new leader: %d", rows)})
}
