package control

import "orch/fsm"

// placing hands out nodes and ports, minding what the same pass has given away.
type placing struct {
	rows    map[string]int // per node that takes new rows
	ports   map[int]bool
	highest int
}

func newPlacing(v *fsm.State) *placing {
	p := &placing{rows: map[string]int{}, ports: map[int]bool{}}
	for _, n := range v.Nodes {
		if n.Status == fsm.NodeAlive && !n.Leaving() {
			p.rows[n.ID] = 0
		}
	}
	for _, c := range v.Containers {
		if _, takes := p.rows[home(c)]; takes {
			p.rows[home(c)]++
		}
		p.ports[c.Port] = true
		p.highest = max(p.highest, c.Port)
	}
	return p
}

// node returns the alive node with the fewest rows, the first by name among
// equals; never the one called except.
func (p *placing) node(except string) (string, bool) {
	best := ""
	for id, rows := range p.rows {
		if id != except && (best == "" || rows < p.rows[best] || rows == p.rows[best] && id < best) {
			best = id
		}
	}
	if best != "" {
		p.rows[best]++
	}
	return best, best != ""
}

// port is the highest port in use and one, at least base; at the end of the range
// the lowest that is free, first from base. 0 means that none is.
func (p *placing) port(base int) int {
	port := max(base, p.highest+1)
	if port > fsm.MaxPort {
		if port = p.free(base); port == 0 {
			port = p.free(firstPort)
		}
	}
	if port != 0 {
		p.highest = max(p.highest, port)
		p.ports[port] = true
	}
	return port
}

// home is the node that a row is on, or will be when it begins anew.
func home(c fsm.Container) string {
	if c.NextNode != "" {
		return c.NextNode
	}
	return c.Node
}

// firstPort begins the range of ports of containers, which fsm.MaxPort ends.
const firstPort = 8000

func (p *placing) free(from int) int {
	for port := max(from, firstPort); port <= fsm.MaxPort; port++ {
		if !p.ports[port] {
			return port
		}
	}
	return 0
}
