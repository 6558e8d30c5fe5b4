package agent

import (
	"context"
	"errors"
	"fmt"
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
	r.LastTerm, r.LastIndex = n.raft.Holds()
	r.TrustIndex, _, _ = n.trust.state()
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
			What: i.What, Reason: i.Reason, Since: i.Since, Meaning: meaning(i.What),
		})
	}
	if list := n.gossip.Load(); list != nil && list.Trouble() != nil {
		s.Impaired = append(s.Impaired, api.Impairment{
			What: "gossip", Reason: list.Trouble().Error(),
			Meaning: "the loss of a node is noticed later; start the node that is missing, and see that port 7482 is open, tcp and udp",
		})
	}
	s.Impaired = append(s.Impaired, n.impairedKeys(v, time.Now())...)
	if _, waits, _ := n.exchange(ctx).plan(v); waits != "" {
		s.Pending = append(s.Pending, api.Pending{What: "exchange keys", Reason: waits})
	}
	if reason, since := n.worker.Impaired(); reason != "" {
		s.Impaired = append(s.Impaired, api.Impairment{
			What: "engine", Reason: reason, Since: since,
			Meaning: "containers that run go on and are served; none is started or stopped here until the engine answers (systemctl status docker)",
		})
	}
	s.Impaired = append(s.Impaired, n.unguarded()...)
	if n.backups != nil {
		if reason, since := n.backups.Impaired(); reason != "" {
			s.Impaired = append(s.Impaired, api.Impairment{
				What: "snapshot files", Reason: reason, Since: since,
				Meaning: "the cluster works, but its state is not kept outside of it; mend the place that --snapshot-to names",
			})
		}
		if what, in, ok := n.backups.Next(); ok {
			s.Pending = append(s.Pending, api.Pending{What: what, Reason: "it is scheduled", DueInMS: in.Milliseconds()})
		}
	}
	return s
}

// meaning says what goes on although consensus is impaired, and what to do.
func meaning(what string) string {
	switch what {
	case "restarted":
		return "it has cured itself, and nothing is to be done; it is shown for an hour"
	case "slow disk":
		return "all goes on, but leaders may be taken for lost; give the data folder a faster disk"
	case "excluded":
		return "this node serves what it last knew, and should get no requests; its part in the cluster is over until it joins anew"
	}
	return "this node serves requests but takes no part in decisions until this is mended; free or repair the disk of its data folder"
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
	reports := n.reports(ctx, v)
	for i, o := range v.Nodes {
		out[i] = api.NodeInfo{ID: o.ID, Addr: o.Addr, ProxyAddr: o.ProxyAddr, Role: role[o.ID], Status: shownStatus(o), Version: o.Version, AppliedIndex: reports[o.ID].AppliedIndex}
		if out[i].Role == "" {
			out[i].Role = "nonvoter"
		}
	}
	return out
}

// reports asks every node that has not left at once; one that does not answer in time is
// not among them.
func (n *Node) reports(ctx context.Context, v *fsm.State) map[string]api.Report {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]api.Report{}
	for _, o := range v.Nodes {
		if o.Status == fsm.NodeLeft {
			continue
		}
		wg.Go(func() {
			r, err := n.peers.report(ctx, o.ID)
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[o.ID] = r
		})
	}
	wg.Wait()
	return out
}

// Warnings of what ends: early enough for a person, late enough to be no noise, since
// certificates renew themselves a month before.
const (
	warnCertificate = 15 * 24 * time.Hour
	warnCA          = 365 * 24 * time.Hour
)

// impairedKeys says which keys need a person.
func (n *Node) impairedKeys(v *fsm.State, now time.Time) (out []api.Impairment) {
	c := n.trust.live.Get()
	if c == nil {
		return nil
	}
	if _, since, trouble := n.trust.state(); trouble != nil {
		out = append(out, api.Impairment{What: "keys", Reason: trouble.Error(), Since: since,
			Meaning: fmt.Sprintf("this node keeps the keys that it has, and its certificate ends at %s; docs/operations.md, 'Expired certificate'", c.Cert.NotAfter.Format(time.RFC3339))})
	}
	if left := c.Cert.NotAfter.Sub(now); left < warnCertificate {
		out = append(out, api.Impairment{What: "certificate", Reason: fmt.Sprintf("it ends at %s", c.Cert.NotAfter.Format(time.RFC3339)),
			Meaning: "after that no node speaks to this one; it renews by itself once this node has caught up: docs/operations.md, 'Expired certificate'"})
	}
	cas, err := authorities(v)
	for i, ca := range cas {
		if err == nil && v.Trust.Authorities[i].Digest == v.Trust.Signer && ca.NotAfter.Sub(now) < warnCA {
			out = append(out, api.Impairment{What: "CA", Reason: fmt.Sprintf("it ends at %s", ca.NotAfter.Format(time.RFC3339)),
				Meaning: "'orchctl ca rotate' makes a new one while everything goes on"})
		}
	}
	return out
}
