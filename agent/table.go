package agent

import (
	"context"
	"net"
	"strconv"
	"time"

	"orch/fsm"
	"orch/proxy"
)

// table turns a view into what this node's proxy serves from.
func table(v *fsm.State, self string) proxy.Table {
	t := proxy.Table{Index: v.Applied, Services: make([]proxy.Service, 0, len(v.Services))}
	for _, s := range v.Services {
		p := proxy.Service{
			Name: s.Name, Routes: s.Spec.Routes, Mode: s.Spec.Turn, HealthPath: s.Spec.Health.Path, HealthTimeout: time.Duration(s.Spec.Health.Timeout),
			ExposeInternal: s.Spec.ExposeInternal, DebugHeaders: s.Spec.DebugHeaders, Uncounted: s.Spec.Uncounted,
			MaxBody: s.Spec.MaxBody, Timeout: time.Duration(s.Spec.Timeout),
		}
		for _, c := range v.Rows(s.Name) {
			draining := c.Desired != fsm.Running && c.Observed == fsm.Running
			if !draining && !v.InRotation(c) {
				continue
			}
			addr, direct := dialAddr(v, c, self)
			if addr == "" {
				continue
			}
			row := proxy.Row{Number: c.Number, Generation: c.Generation, Node: c.Node, Addr: addr, Direct: direct, Draining: draining}
			if path := s.SpecOf(c).Health.Path; path != p.HealthPath {
				row.HealthPath = path
			}
			p.Rows = append(p.Rows, row)
		}
		t.Services = append(t.Services, p)
	}
	return t
}

// dialAddr is where node self reaches a container: its bridge address when it is
// on the same machine (no proxy of Docker's between), else the published port.
func dialAddr(v *fsm.State, c fsm.Container, self string) (addr string, direct bool) {
	if c.Node == self && c.LocalAddr != "" {
		return c.LocalAddr, true
	}
	n, ok := v.Node(c.Node)
	if !ok {
		return "", false
	}
	return net.JoinHostPort(n.Addr, strconv.Itoa(c.Port)), false
}

// pumpTable gives each new version of the table to the proxy until ctx ends.
func (n *Node) pumpTable(ctx context.Context) error {
	poke, end := n.store.Subscribe()
	defer end()
	for {
		n.proxy.SetTable(table(n.view(), n.cfg.NodeID))
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		}
	}
}
