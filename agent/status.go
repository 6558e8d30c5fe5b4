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

// Ready says why this node should get no requests, or nil. Once it is, the loss of its
// leader, quorum or disk is no reason: it serves on, as every other node would.
func (n *Node) Ready() error {
	switch {
	case n.clusterID() == "":
		return errors.New("in no cluster yet: 'orchctl init' or 'orchctl join ADDR'")
	case n.outcast.Load():
		return errors.New("the cluster goes on without this node: 'orchctl status' says what to do")
	case n.stopping.Load():
		return errors.New("stopping")
	case !n.worker.Ready():
		return errors.New(n.behind())
	case !n.serving.Load():
		return errors.New("its public port is not open yet")
	}
	return nil
}

// behind says what a node waits for that has not reconciled yet.
func (n *Node) behind() string {
	if reason, _ := n.worker.Impaired(); reason != "" {
		return "not reconciled yet: the container engine does not answer: " + reason
	}
	if id, _ := n.raft.Leader(); id == "" {
		return "not caught up yet: no leader is known"
	}
	return "catching up with the cluster"
}

// Report implements api.Self.
func (n *Node) Report() api.Report {
	r := api.Report{Node: n.cfg.NodeID, AppliedIndex: n.store.View().Applied, ServingIndex: n.proxy.Serving(), Fenced: n.raft.Fenced(), Version: n.cfg.Version, InFlight: []api.Load{}}
	r.LastTerm, r.LastIndex = n.raft.Holds()
	since := n.raft.Leaderless()
	r.NoLeader = !since.IsZero() && time.Since(since) >= relayAfter // no mere election
	if since.IsZero() {
		r.Leader, _ = n.raft.Leader()
	}
	r.TrustIndex, _, _ = n.trust.state()
	for _, l := range n.proxy.InFlight() {
		r.InFlight = append(r.InFlight, api.Load{Service: l.Service, Number: l.Number, Generation: l.Generation, InFlight: l.InFlight})
	}
	return r
}

// Status implements api.Self.
func (n *Node) Status(ctx context.Context) api.Status {
	v, raft := n.view(), n.raft.Status()
	now, leader, reports := n.clock.now(), n.leader(), n.askAll(ctx, v)
	voters, unable, _ := n.unable(v, reports) // what is not known is not shown; no vote goes by it
	s := api.Status{
		ClusterID: n.clusterID(), Leader: leader, Term: raft.Term, CommitIndex: raft.Commit, Quorum: leader != "",
		TurnMode: n.turnMode(), Services: api.Services(v, now), Nodes: n.nodes(v, leader, reports),
		Pending: n.pending(ctx, v, now, leader != "", unable), Impaired: []api.Impairment{},
	}
	for _, i := range raft.Impaired {
		s.Impaired = append(s.Impaired, api.Impairment{
			What: i.What, Reason: i.Reason, Since: i.Since, Meaning: meaning(i.What),
		})
	}
	told := leader != "" && raft.Fenced // why, above
	if since := raft.Leaderless; !since.IsZero() && s.ClusterID != "" && !n.outcast.Load() && !told {
		s.Impaired = append(s.Impaired, leaderless(since, leader, voters, unable)...)
	}
	s.Impaired = append(s.Impaired, n.impairedKeys(v, time.Now())...)
	s.Impaired = append(s.Impaired, n.impairedRooms()...)
	return s
}

// leaderless says what is wrong where Raft knows no leader; leader is one that the API
// has found all the same.
func leaderless(since time.Time, leader string, voters []string, unable map[string]string) []api.Impairment {
	if leader != "" {
		return []api.Impairment{{
			What: "cut off", Since: since, Reason: fmt.Sprintf("%s leads, and Raft does not hear of it here", leader),
			Meaning: "this node goes by the table that the leader gives over the API, and has no say; see that port 7481 is open between the nodes",
		}}
	}
	reason := "an election is under way"
	if lost := lacking(voters, unable, ""); lost != "" {
		reason = "no majority of the voters can acknowledge: " + lost
	}
	return []api.Impairment{{
		What: "no leader", Since: since, Reason: reason,
		Meaning: "requests are served, but nothing is healed, scaled or changed; start or mend what is missing (docs/operations.md, 'Lost quorum')",
	}}
}

// impairedRooms says what else of this node does not work as it should.
func (n *Node) impairedRooms() (out []api.Impairment) {
	if list := n.gossip.Load(); list != nil {
		if reason, since := list.Impaired(); reason != "" {
			out = append(out, api.Impairment{
				What: "gossip", Reason: reason, Since: since,
				Meaning: "the loss of a node is noticed later; start the node that is missing, and see that port 7482 is open, tcp and udp",
			})
		}
	}
	if reason, since := n.worker.Impaired(); reason != "" {
		out = append(out, api.Impairment{
			What: "engine", Reason: reason, Since: since,
			Meaning: "containers that run go on and are served; none is started or stopped here until the engine answers (systemctl status docker)",
		})
	}
	out = append(out, n.unguarded()...)
	if n.backups == nil {
		return out
	}
	if reason, since := n.backups.Impaired(); reason != "" {
		out = append(out, api.Impairment{
			What: "snapshot files", Reason: reason, Since: since,
			Meaning: "the cluster works, but its state is not kept outside of it; mend the place that --snapshot-to names",
		})
	}
	return out
}

// pending says what will happen by itself. Without a leader nothing of it has a time.
func (n *Node) pending(ctx context.Context, v *fsm.State, now int64, led bool, unable map[string]string) []api.Pending {
	list := control.Upcoming(v, now, unable)
	if _, waits, _ := n.exchange(ctx).plan(v); waits != "" {
		list = append(list, control.Pending{What: "exchange keys", Reason: waits})
	}
	if n.backups != nil {
		if what, in, ok := n.backups.Next(); ok {
			list = append(list, control.Pending{What: what, Reason: "it is scheduled", DueMS: in.Milliseconds()})
		}
	}
	if !led {
		list = control.Stalled(list)
	}
	out := make([]api.Pending, len(list))
	for i, p := range list {
		out[i] = api.Pending{What: p.What, Reason: p.Reason, DueInMS: p.DueMS}
	}
	return out
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
	return "this node serves requests and does what the leader decides, but has no vote until this is mended; free or repair the disk of its data folder"
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
func (n *Node) nodes(v *fsm.State, leader string, reports map[string]api.Report) []api.NodeInfo {
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
	for i, o := range v.Nodes {
		out[i] = api.NodeInfo{ID: o.ID, Addr: o.Addr, ProxyAddr: o.ProxyAddr, Role: role[o.ID], Status: shownStatus(o), Version: o.Version, AppliedIndex: reports[o.ID].AppliedIndex}
		if out[i].Role == "" {
			out[i].Role = "nonvoter"
		}
	}
	return out
}

// askAll is reports for one who waits.
func (n *Node) askAll(ctx context.Context, v *fsm.State) map[string]api.Report {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return n.reports(ctx, v)
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
		out = append(out, api.Impairment{What: "certificate", Reason: fmt.Sprintf("it ends at %s", c.Cert.NotAfter.Format(time.RFC3339)), Since: c.Cert.NotAfter.Add(-warnCertificate),
			Meaning: "after that no node speaks to this one; it renews by itself once this node has caught up: docs/operations.md, 'Expired certificate'"})
	}
	cas, err := authorities(v)
	for i, ca := range cas {
		if err == nil && v.Trust.Authorities[i].Digest == v.Trust.Signer && ca.NotAfter.Sub(now) < warnCA {
			out = append(out, api.Impairment{What: "CA", Reason: fmt.Sprintf("it ends at %s", ca.NotAfter.Format(time.RFC3339)), Since: ca.NotAfter.Add(-warnCA),
				Meaning: "'orchctl ca rotate' makes a new one while everything goes on"})
		}
	}
	return out
}
