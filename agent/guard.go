package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"orch/agent/api"
	"orch/agent/firewall"
	"orch/fsm"
)

// Values of Config.Firewall.
const (
	firewallAuto = "auto"
	firewallOff  = "off"
)

// unguardLimit bounds the removal of the rules of a node that has left.
const unguardLimit = 15 * time.Second

// guards shuts the containers' ports to all but the nodes, once there is a cluster,
// or takes the rules of an earlier run away where they are not wanted any more.
func (n *Node) guards(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.joined:
	}
	fw, err := newFirewall(n.cfg, n.clusterID(), n.ownContainers)
	if err != nil {
		return err
	}
	if n.cfg.Firewall == firewallOff {
		if err := removeRules(ctx, fw); err != nil {
			n.log.Warn("rules of an earlier run may be in force", "reason", err)
		}
		return nil
	}
	n.firewall.Store(fw)
	poke, end := n.store.Subscribe()
	defer end()
	return fw.Run(ctx, n.peerAddrs, poke)
}

// unguard removes the rules when this node has left and has no containers any more.
func (n *Node) unguard() {
	fw := n.firewall.Load()
	if fw == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), unguardLimit)
	defer cancel()
	if err := removeRules(ctx, fw); err != nil {
		n.log.Warn("rules of the container ports left behind", "chain", fw.Chain(), "reason", err)
	}
}

// removeRules takes no refusal for a failure where this is not root: such a daemon has
// made no rules.
func removeRules(ctx context.Context, fw *firewall.Firewall) error {
	if err := fw.Remove(ctx); err != nil && os.Geteuid() == 0 {
		return err
	}
	return nil
}

func newFirewall(c Config, cluster string, containers func() []netip.Addr) (*firewall.Firewall, error) {
	addr, err := netip.ParseAddr(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("--addr: %w", err)
	}
	return firewall.New(firewall.Config{
		Cluster: cluster, Node: c.NodeID, Address: addr, Open: c.ownPorts(), Containers: containers, Logger: c.Logger.With("node", c.NodeID),
	})
}

// ownPorts are those that this daemon answers on: they are protected as
// docs/operations.md says, or meant for everybody.
func (c Config) ownPorts() (ports []uint16) {
	for _, a := range []string{c.ProxyAddr, c.Requests.TLSAddr, c.APIAddr, c.RaftAddr, c.GossipAddr} {
		_, port, err := net.SplitHostPort(a)
		if p, perr := strconv.ParseUint(port, 10, 16); err == nil && perr == nil {
			ports = append(ports, uint16(p))
		}
	}
	return ports
}

// peerAddrs are the addresses of all nodes that may be or come back.
func (n *Node) peerAddrs() (addrs []netip.Addr) {
	for _, o := range n.known() {
		if a, err := netip.ParseAddr(o.Addr); err == nil && o.Status != fsm.NodeLeft {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// ownContainers are the bridge addresses of this node's containers.
func (n *Node) ownContainers() (addrs []netip.Addr) {
	for _, c := range n.view().Containers {
		if c.Node != n.cfg.NodeID || c.LocalAddr == "" {
			continue
		}
		if a, err := netip.ParseAddrPort(c.LocalAddr); err == nil && !a.Addr().IsLoopback() && a.Addr().String() != n.cfg.Addr {
			addrs = append(addrs, a.Addr())
		}
	}
	return addrs
}

// unguarded is what status shows while the ports may be open.
func (n *Node) unguarded() []api.Impairment {
	fw := n.firewall.Load()
	if fw == nil {
		return nil
	}
	s := fw.State()
	if s.Reason == "" {
		return nil
	}
	return []api.Impairment{{
		What: "firewall", Reason: s.Reason, Since: s.Since,
		Meaning: "all is served, but what the proxy refuses on its port can be asked of a container directly; shut the ports in DOCKER-USER, or mend what stops orchd from it (--firewall off if others see to it)",
	}}
}
