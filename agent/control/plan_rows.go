package control

import (
	"context"
	"fmt"
	"time"

	"orch/fsm"
)

// rows places, renews and drains until each service has as many rows as was decided,
// all of them of its newest build, and says how the roll-out of that has gone.
func (t *term) rows(ctx context.Context) error {
	return t.every(ctx, noKick, func(ctx context.Context) (time.Duration, error) {
		v, now := t.views.View(), t.cfg.Now()
		return t.cfg.Interval, t.do(ctx, append(planRollout(v, now), planRows(v, now)...))
	})
}

// planRows places, renews and drains rows. Launch takes the highest port and one, on
// the node with the fewest rows; stop takes the row with the highest port.
//
// A row that has to begin anew, for a roll-out or on another node, keeps its number and
// port: a stand-in is placed and healthy first, then the row drains, stops and begins
// again, and when all have done so the stand-in goes, as the row with the highest port.
func planRows(v *fsm.State, now int64) []Action {
	var plan []Action
	p, mover := newPlacing(v), balance(v, now)
	for _, sv := range v.Services {
		s := staffOf(v, sv, mover, now)
		plan = append(plan, s.place(p)...)
		plan = append(plan, s.renew(v, p, mover, now)...)
		plan = append(plan, s.drain(now)...)
	}
	return bounded(plan)
}

// place makes what is missing, stand-ins too.
func (s staff) place(p *placing) []Action {
	var plan []Action
	for i := len(s.kept) + len(s.standIns); i < s.wanted+s.standing(); i++ {
		why := s.service.Decision.Reason
		if i >= s.wanted {
			why = "stands in for rows that begin anew"
		}
		// A port first: a pass that finds none must not count a node as used.
		port := p.port(s.service.Spec.PortBase)
		if port == 0 {
			return plan
		}
		node, ok := p.node("")
		if !ok {
			return plan
		}
		s.highest++
		plan = append(plan, Action{fsm.Place{Service: s.service.Name, Number: s.highest, Node: node, Port: port, Reason: why, StandIn: i >= s.wanted}, why})
	}
	return plan
}

// renew has rows begin anew, each only while a healthy stand-in takes its place. A
// build of which no row is healthy yet gets none but the stand-in. A row that is not
// healthy has nothing to lose; one on a node whose time to drain is over goes as it is,
// but never into a build that is not proven; what a lost node still runs is freed by no
// deadline, and waits for its stand-in.
// What it does is in s afterwards, for drain.
func (s *staff) renew(v *fsm.State, p *placing, mover move, now int64) []Action {
	var plan []Action
	var still []fsm.Container
	defer func() { s.wrong = still }()
	busy, covered := s.renewing+s.busy, s.renewing+s.young
	for _, row := range s.wrong {
		n, _ := v.Node(row.Node)
		older := row.Build != s.service.Newest().Build
		over := n.DrainDeadline != 0 && now >= n.DrainDeadline && !gone(n.Status)
		full := busy >= max(1, s.service.Spec.Rollout.Parallel)
		bare := row.Status && healthy(s.standIns) <= covered
		if older && !s.proven || !over && (older && full || row.Status && full || bare) {
			still = append(still, row)
			continue
		}
		node, why := row.Node, fmt.Sprintf("revision %d", s.service.Newest().Number)
		switch leaves := n.Leaving() || gone(n.Status); {
		case leaves:
			var ok bool
			if node, ok = p.node(row.Node); !ok {
				still = append(still, row)
				continue
			}
			why = fmt.Sprintf("moves from node %s to %s", row.Node, node)
		case mover.is(row):
			node = mover.to
			why = fmt.Sprintf("moves from node %s to %s, which has fewer", row.Node, node)
		}
		deadline := now
		if !over {
			deadline += time.Duration(s.service.Spec.Drain).Milliseconds()
		}
		busy++
		s.renewing++
		if row.Status {
			covered++
		} else if !row.Proven {
			s.fresh--
		}
		plan = append(plan, Action{fsm.Renew{Row: row.Row(), Node: node, Build: s.service.Newest().Build, Deadline: deadline, Reason: why}, why})
	}
	return plan
}

// drain takes away what is too much, highest port first. A healthy row stays while it
// stands in for one that is to be kept and has not been healthy yet, and so does the
// last healthy one: no request may fail by it.
func (s staff) drain(now int64) []Action {
	var plan []Action
	deadline := now + time.Duration(s.service.Spec.Drain).Milliseconds()
	cover := s.renewing + s.fresh
	if cover == 0 && s.wanted > 0 && healthy(s.kept) == 0 {
		cover = 1
	}
	over := len(s.standIns) - s.standing() // stand-ins that are too many
	spare := healthy(s.extra) - cover
	for _, row := range s.extra {
		standIn := containsRow(s.standIns, row)
		if row.NextNode != "" || standIn && over <= 0 || row.Status && spare <= 0 {
			continue
		}
		if standIn {
			over--
		}
		if row.Status {
			spare--
		}
		why := s.service.Decision.Reason
		if row.StandIn {
			why = "nothing is left to stand in for: " + why
		}
		plan = append(plan, Action{fsm.Drain{Row: row.Row(), Deadline: deadline, Reason: why}, why})
	}
	return plan
}

func containsRow(rows []fsm.Container, row fsm.Container) bool {
	for _, r := range rows {
		if r.Number == row.Number {
			return true
		}
	}
	return false
}
