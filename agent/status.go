package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"orch/agent/api"
	"orch/agent/control"
	"orch/fsm"
)

// View implements api.Table: the newest table this node knows.
func (n *Node) View() *fsm.State { return n.view() }

// Subscribe implements api.Table.
func (n *Node) Subscribe() (<-chan struct{}, func()) { return n.store.Subscribe() }

// Ready says why this node should get no requests, or nil.
func (n *Node) Ready() error {
	switch {
	case n.clusterID() == "":
		return errors.New("in no cluster yet: 'orchctl init' or 'orchctl join ADDR'")
	case !n.ready.Load():
		return errors.New("catching up with the cluster, or stopping")
	}
	return nil
}

// Report implements api.Self.
func (n *Node) Report() api.Report {
	r := api.Report{Node: n.cfg.NodeID, AppliedIndex: n.store.View().Applied, ServingIndex: n.proxy.Serving(), Version: n.cfg.Version, InFlight: []api.Load{}}
	for _, l := range n.proxy.InFlight() {
		r.InFlight = append(r.InFlight, api.Load{Service: l.Service, Number: l.Number, Generation: l.Generation, InFlight: l.InFlight})
	}
	return r
}

// Status implements api.Self.
func (n *Node) Status(ctx context.Context) api.Status {
	v, raft := n.view(), n.raft.Status()
	now := n.clock.now()
	s := api.Status{
		ClusterID: n.clusterID(), Leader: raft.LeaderID, Term: raft.Term, CommitIndex: raft.Commit, Quorum: raft.LeaderID != "",
		TurnMode: n.turnMode(), Services: api.Services(v, now), Nodes: n.nodes(ctx, v, raft.LeaderID),
		Pending: []api.Pending{}, Impaired: []api.Impairment{},
	}
	for _, p := range control.Upcoming(v, now) {
		s.Pending = append(s.Pending, api.Pending{What: p.What, Reason: p.Reason, DueInMS: p.DueMS})
	}
	for _, i := range raft.Impaired {
		s.Impaired = append(s.Impaired, api.Impairment{
			What: i.What, Reason: i.Reason, Since: i.Since,
			Meaning: "this node serves requests but takes no part in decisions until this is mended; free or repair the disk of its data folder",
		})
	}
	if list := n.gossip.Load(); list != nil && list.Trouble() != nil {
		s.Impaired = append(s.Impaired, api.Impairment{
			What: "gossip", Reason: list.Trouble().Error(),
			Meaning: "the loss of a node is noticed later; start the node that is missing, and see that port 7482 is open, tcp and udp",
		})
	}
	if reason, since := n.worker.Impaired(); reason != "" {
		s.Impaired = append(s.Impaired, api.Impairment{
			What: "engine", Reason: reason, Since: since,
			Meaning: "containers that run go on and are served; none is started or stopped here until the engine answers (systemctl status docker)",
		})
	}
	return s
}

// turnMode is leased or exact as the services ask, or local as soon as one has to go
// on without the cluster.
func (n *Node) turnMode() string {
	mode := "leased"
	for _, m := range n.proxy.Status() {
		if string(m.Source) != mode {
			mode = string(m.Source)
		}
		if mode == "local" {
			break
		}
	}
	return mode
}

// askTimeout bounds the question how far another node has applied.
const askTimeout = 300 * time.Millisecond

// nodes is the table of nodes with the roles of Raft's configuration and how far each
// has applied; one that does not answer shows 0.
func (n *Node) nodes(ctx context.Context, v *fsm.State, leader string) []api.NodeInfo {
	role := map[string]string{}
	if members, err := n.raft.Members(); err == nil {
		for _, m := range members {
			role[m.ID] = "nonvoter"
			if m.Voter {
				role[m.ID] = "voter"
			}
		}
	}
	if leader != "" {
		role[leader] = "leader"
	}
	out := make([]api.NodeInfo, len(v.Nodes))
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, o := range v.Nodes {
		out[i] = api.NodeInfo{ID: o.ID, Addr: o.Addr, ProxyAddr: o.ProxyAddr, Role: role[o.ID], Status: o.Status, Version: o.Version}
		if out[i].Role == "" {
			out[i].Role = "nonvoter"
		}
		if o.Status == fsm.NodeLeft {
			continue
		}
		wg.Go(func() {
			if r, err := n.peers.Report(ctx, o.ID); err == nil {
				out[i].AppliedIndex = r.Applied
			}
		})
	}
	wg.Wait()
	return out
}

// departs waits until the cluster has let this node go, then ends its run.
func (n *Node) departs(ctx context.Context) error {
	poke, end := n.store.Subscribe()
	defer end()
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		self, ok := n.store.View().Node(n.cfg.NodeID)
		gone := ok && self.Status == fsm.NodeLeft
		if ok && self.Status == fsm.NodeDraining {
			// The last word may not reach one that has no vote any more: ask.
			gone = gone || n.othersSayLeft(ctx)
		}
		if gone {
			n.sayGoodBye(ctx)
			n.leaving(errLeft)
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
		case <-tick.C:
		}
	}
}

// sayGoodBye has gossip call this node left rather than dead.
func (n *Node) sayGoodBye(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOver)
	defer cancel()
	if list := n.gossip.Load(); list != nil {
		if err := list.Leave(ctx); err != nil {
			n.log.Warn("the others will take this node for dead before they call it left", "reason", err)
		}
	}
}

func (n *Node) othersSayLeft(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeInterval)
	defer cancel()
	for _, o := range n.store.View().Nodes {
		if o.ID == n.cfg.NodeID {
			continue
		}
		nodes, err := n.peers.at(o.APIAddr).Nodes(ctx)
		if err != nil {
			continue
		}
		for _, x := range nodes {
			if x.ID == n.cfg.NodeID && x.Status == fsm.NodeLeft {
				return true
			}
		}
	}
	return false
}
