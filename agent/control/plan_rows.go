package control

import (
	"cmp"
	"context"
	"slices"
	"time"

	"orch/fsm"
)

// rows places and drains until each service has as many rows as was decided.
func (t *term) rows(ctx context.Context) error {
	return t.every(ctx, noKick, func(ctx context.Context) (time.Duration, error) {
		return t.cfg.Interval, t.do(ctx, planRows(t.views.View(), t.cfg.Now()))
	})
}

// planRows places and drains rows. Launch takes the highest port and one, on the
// node with the fewest rows; stop takes the row with the highest port.
func planRows(v *fsm.State, now int64) []Action {
	var plan []Action
	p := newPlacing(v)
	for _, sv := range v.Services {
		s := staffOf(v, sv)
		plan = append(plan, s.place(p)...)
		plan = append(plan, s.drain(now)...)
	}
	return bounded(plan)
}

// staff is the rows of one service that are to be running.
type staff struct {
	service fsm.Service
	highest int // number
	// stay, and leave because their node does; both by port, the highest first.
	stay, leave []fsm.Container
}

func staffOf(v *fsm.State, sv fsm.Service) staff {
	s := staff{service: sv}
	for _, row := range v.Rows(sv.Name) {
		s.highest = max(s.highest, row.Number)
		n, _ := v.Node(row.Node)
		switch {
		case row.Desired != fsm.Running:
		case n.Status == fsm.NodeDraining:
			s.leave = append(s.leave, row)
		default:
			s.stay = append(s.stay, row)
		}
	}
	byPort := func(a, b fsm.Container) int { return cmp.Compare(b.Port, a.Port) }
	slices.SortFunc(s.stay, byPort)
	slices.SortFunc(s.leave, byPort)
	return s
}

// place makes what is missing. Rows on a node that leaves do not count as there:
// others are made before they go.
func (s staff) place(p *placing) []Action {
	if s.service.Removing {
		return nil
	}
	var plan []Action
	why := s.service.Decision.Reason
	if len(s.leave) > 0 {
		why = "in place of one on node " + s.leave[0].Node + ", which leaves"
	}
	for i := len(s.stay); i < s.service.Decision.Desired; i++ {
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
		plan = append(plan, Action{fsm.Place{Service: s.service.Name, Number: s.highest, Node: node, Port: port, Reason: why}, why})
	}
	return plan
}

// drain takes away what is too much, highest port first, and what leaves as soon
// as enough others are healthy. It never takes the last healthy row while one
// that shall stay is not: no request may fail by it.
func (s staff) drain(now int64) []Action {
	wanted := s.service.Decision.Desired
	if s.service.Removing {
		wanted = 0
	}
	var plan []Action
	deadline := now + time.Duration(s.service.Spec.Drain).Milliseconds()
	add := func(row fsm.Container, why string) {
		plan = append(plan, Action{fsm.Drain{Row: row.Row(), Deadline: deadline, Reason: why}, why})
	}
	extra := max(0, len(s.stay)-wanted)
	kept := healthy(s.stay[extra:])
	spare := healthy(s.stay) + healthy(s.leave) - wanted // what may go of those that leave
	last := wanted > 0 && kept == 0
	for _, row := range s.stay[:extra] {
		if row.Status && last {
			last = false
			continue
		}
		add(row, s.service.Decision.Reason)
		if row.Status {
			spare--
		}
	}
	for _, row := range s.leave {
		if row.Status && spare <= 0 {
			continue
		}
		add(row, "node "+row.Node+" leaves")
		if row.Status {
			spare--
		}
	}
	return plan
}

func healthy(rows []fsm.Container) int {
	n := 0
	for _, row := range rows {
		if row.Status {
			n++
		}
	}
	return n
}
