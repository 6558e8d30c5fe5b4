package control

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"orch/fsm"
)

// want is the number of containers that the requests of the window ending at now
// (ms) ask for.
func want(sv fsm.Service, now int64) (int, uint64) {
	sc := sv.Spec.Scale
	requests := sv.Requests(now, time.Duration(sc.Window).Milliseconds())
	n := requests/uint64(max(1, sc.RequestsPerContainer)) + 1
	return int(min(max(n, uint64(sc.Min)), uint64(sc.Max))), requests
}

// desired is the number of containers a service shall have: up at once, down only
// after the lower number has been right for the cooldown on end. It is the highest
// want of the seconds of the cooldown, so nothing needs to be remembered.
func desired(sv fsm.Service, now int64) fsm.Decision {
	if sv.Removing {
		return fsm.Decision{At: now, Reason: "the service is to be removed"}
	}
	current, requests := want(sv, now)
	d := fsm.Decision{Desired: current, Requests: requests, At: now}
	if sv.Manual != 0 {
		d.Desired, d.Reason = sv.Manual, fmt.Sprintf("%d by hand", sv.Manual)
		return d
	}
	d.Reason = fmt.Sprintf("%d requests in %s, %d a container", requests, time.Duration(sv.Spec.Scale.Window), sv.Spec.Scale.RequestsPerContainer)
	for back := int64(1); back < time.Duration(sv.Spec.Scale.Cooldown).Milliseconds()/1000; back++ {
		if n, _ := want(sv, now-back*1000); n > d.Desired {
			d.Desired = n
		}
	}
	return d
}

// planScale decides, places and drains so that each service has what it shall.
func planScale(v *fsm.State, now int64) []Action {
	var plan []Action
	p := newPlacing(v)
	for _, sv := range v.Services {
		d := desired(sv, now)
		if sv.Decision.At == 0 || d.Desired != sv.Decision.Desired {
			plan = append(plan, Action{fsm.Decide{Service: sv.Name, Seen: sv.Index, Decision: d}, d.Reason})
			continue // placed once it is decided: the next pass, at once
		}
		plan = append(plan, planRows(v, sv, p, now)...)
	}
	return plan
}

// planRows places or drains the rows of one service. Rows on a node that drains
// do not count as there: others are made before they go.
func planRows(v *fsm.State, sv fsm.Service, p *placing, now int64) []Action {
	var plan []Action
	var stay, leave []fsm.Container
	highest, healthy := 0, 0
	for _, row := range v.Rows(sv.Name) {
		highest = max(highest, row.Number)
		n, _ := v.Node(row.Node)
		switch {
		case row.Desired != fsm.Running:
		case n.Status == fsm.NodeDraining:
			leave = append(leave, row)
		default:
			stay = append(stay, row)
			if row.Status {
				healthy++
			}
		}
	}
	for i := len(stay); i < sv.Decision.Desired; i++ {
		node, ok := p.node()
		if !ok {
			return plan
		}
		highest++
		plan = append(plan, Action{fsm.Place{Service: sv.Name, Number: highest, Node: node, Port: p.nextPort(sv.Spec.PortBase), Reason: sv.Decision.Reason}, sv.Decision.Reason})
	}
	slices.SortFunc(stay, func(a, b fsm.Container) int { return cmp.Compare(b.Port, a.Port) })
	for _, row := range stay[:max(0, len(stay)-sv.Decision.Desired)] {
		plan = append(plan, drain(row, sv, now, sv.Decision.Reason))
	}
	if healthy >= sv.Decision.Desired {
		for _, row := range leave {
			plan = append(plan, drain(row, sv, now, "node "+row.Node+" leaves"))
		}
	}
	return plan
}

func drain(row fsm.Container, sv fsm.Service, now int64, why string) Action {
	deadline := now + time.Duration(sv.Spec.Drain).Milliseconds()
	return Action{fsm.Drain{Row: row.Row(), Deadline: deadline, Reason: why}, why}
}

// placing hands out nodes and ports, minding what the same pass has given away.
type placing struct {
	rows    map[string]int // per node that takes new rows
	ports   map[int]bool
	highest int
}

func newPlacing(v *fsm.State) *placing {
	p := &placing{rows: map[string]int{}, ports: map[int]bool{}}
	for _, n := range v.Nodes {
		if n.Status == fsm.NodeAlive {
			p.rows[n.ID] = len(v.RowsOn(n.ID))
		}
	}
	for _, c := range v.Containers {
		p.ports[c.Port] = true
		p.highest = max(p.highest, c.Port)
	}
	return p
}

// node returns the alive node with the fewest rows, the first by name among equals.
func (p *placing) node() (string, bool) {
	best := ""
	for id, rows := range p.rows {
		if best == "" || rows < p.rows[best] || rows == p.rows[best] && id < best {
			best = id
		}
	}
	if best != "" {
		p.rows[best]++
	}
	return best, best != ""
}

// nextPort is the highest port in use and one; at the end of the range the lowest
// that is free.
func (p *placing) nextPort(base int) int {
	port := max(base, p.highest+1)
	if port > fsm.MaxPort {
		for port = base; p.ports[port] && port < fsm.MaxPort; port++ {
		}
	}
	p.highest = max(p.highest, port)
	p.ports[port] = true
	return port
}
