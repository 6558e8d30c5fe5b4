package control

import (
	"cmp"
	"fmt"
	"slices"

	"orch/fsm"
)

// planNodes writes down who is alive. Dead needs two witnesses: gossip, and an API
// that does not answer either; to come back from it needs both too.
func planNodes(v *fsm.State, self string, seen map[string]sighting) []Action {
	var plan []Action
	for _, n := range v.Nodes {
		s, ok := seen[n.ID]
		if !ok || n.Status == fsm.NodeLeft {
			continue
		}
		set := func(status fsm.NodeStatus, why string) {
			plan = append(plan, Action{fsm.SetNodeStatus{ID: n.ID, Seen: n.Index, Status: status, Reason: why}, why})
		}
		lost := s.Gossip == "dead" || s.Gossip == "left" || s.Gossip == "absent" && s.For >= absentAfter
		switch {
		case s.Gossip == "alive" && n.Status == fsm.NodeSuspect:
			set(fsm.NodeAlive, "gossip hears of it again")
		case s.Gossip == "alive" && n.Status == fsm.NodeDead && s.Answers && n.Leaves:
			set(fsm.NodeDraining, "it is back, and goes on to leave as it was told")
		case s.Gossip == "alive" && n.Status == fsm.NodeDead && s.Answers:
			set(fsm.NodeAlive, "it is back: gossip hears of it and its API answers")
		case s.Gossip == "suspect" && n.Status == fsm.NodeAlive && s.For >= suspectAfter:
			set(fsm.NodeSuspect, "gossip has doubts")
		case lost && !s.Answers && n.Status != fsm.NodeDead:
			set(fsm.NodeDead, fmt.Sprintf("gossip says %s and its API does not answer", s.Gossip))
		case lost && s.Answers && s.Gossip == "dead" && n.Status == fsm.NodeAlive:
			set(fsm.NodeSuspect, "gossip says dead, but its API answers: is UDP open between the nodes?")
		}
	}
	return bounded(plan)
}

// The changes of Raft's members.
type changeKind string

const (
	addNonvoter changeKind = "add as non-voter"
	addVoter    changeKind = "give a vote to"
	remove      changeKind = "remove"
	transfer    changeKind = "hand leadership to"
	setLeft     changeKind = "note as left"
)

// change is one step of Raft's configuration, or of a node's way out of it.
type change struct {
	do     changeKind
	node   string
	addr   string
	reason string
}

func (c change) name() string { return string(c.do) + " " + c.node }

// planVoters finds the changes of Raft's members that are due. Each waits for the one
// before, so one is made a pass, and where it fails the next is tried. A node joins
// as a non-voter and gets its vote when it has been fit for a while. One that
// leaves, or has been dead for long, goes when it has no rows, and a vote is taken
// only where the voters that remain have a majority that can acknowledge.
func planVoters(v *fsm.State, list []Voter, fit map[string]fitness, cfg Config) []change {
	p := voting{v: v, list: list, fit: fit, self: cfg.Node}
	for _, n := range v.Nodes {
		m, member := p.member(n.ID)
		switch {
		case n.Status == fsm.NodeLeft:
			if member {
				p.drop(n.ID, "it has left")
			}
		case n.Status == fsm.NodeDraining:
			p.part(n, member, "it leaves")
		case reaped(n, cfg.Now()):
			p.part(n, member, "it has been dead for long")
		case n.Status != fsm.NodeAlive:
		case !member || m.Addr != n.RaftAddr:
			p.add(n)
		case !m.Voter && fit[n.ID].Fit && fit[n.ID].For >= cfg.Stable:
			p.do(change{do: addVoter, node: n.ID, addr: n.RaftAddr, reason: fmt.Sprintf("it has kept up for %s", cfg.Stable)})
		}
	}
	for _, m := range list {
		if _, ok := v.Node(m.ID); !ok && m.ID != cfg.Node {
			p.drop(m.ID, "it is not in the table")
		}
	}
	return p.plan
}

// reaped: a node that has been dead for so long has no part in the cluster any more,
// until it returns.
func reaped(n fsm.Node, now int64) bool {
	return n.Status == fsm.NodeDead && now-n.Since >= reapAfter.Milliseconds()
}

// voting is one pass of planVoters.
type voting struct {
	v    *fsm.State
	list []Voter
	fit  map[string]fitness
	self string
	plan []change
}

func (p *voting) do(c change) { p.plan = append(p.plan, c) }

func (p *voting) member(id string) (Voter, bool) {
	return p.find(func(m Voter) bool { return m.ID == id })
}

func (p *voting) find(is func(Voter) bool) (Voter, bool) {
	i := slices.IndexFunc(p.list, is)
	if i < 0 {
		return Voter{}, false
	}
	return p.list[i], true
}

// add takes a node in, or to its new address. Where a member that is there no more
// has that address, it makes room: one that moves does so by its own change, first;
// one that is gone, or whose new address is held in turn, loses its place, and gets
// it again when it is back.
func (p *voting) add(n fsm.Node) {
	holder, held := p.find(func(m Voter) bool { return m.Addr == n.RaftAddr && m.ID != n.ID })
	if !held {
		p.do(change{do: addNonvoter, node: n.ID, addr: n.RaftAddr, reason: "it is in the table"})
		return
	}
	h, known := p.v.Node(holder.ID)
	_, stuck := p.find(func(m Voter) bool { return m.Addr == h.RaftAddr && m.ID != h.ID })
	if known && !gone(h.Status) && !stuck {
		return
	}
	if holder.ID != p.self {
		p.drop(holder.ID, fmt.Sprintf("its address %s is node %s's now", holder.Addr, n.ID))
	}
}

// part lets a node go, step by step: its rows are made elsewhere first (see
// planRows), then leadership, then its vote, then its name. The vote goes before
// the name, for a node that reads that it has left may end at once.
func (p *voting) part(n fsm.Node, member bool, why string) {
	switch {
	case len(p.v.RowsOn(n.ID)) > 0:
	case !member:
		p.do(change{do: setLeft, node: n.ID, reason: why})
	default:
		p.drop(n.ID, why)
	}
}

// drop takes a member out where a quorum remains. A leader hands over first.
func (p *voting) drop(id, why string) {
	switch {
	case id == p.self:
		p.handOver(why)
	case quorumWithout(p.list, p.fit, id):
		p.do(change{do: remove, node: id, reason: why})
	}
}

// handOver offers leadership to each fit voter, the one with the newest state first.
func (p *voting) handOver(why string) {
	var heirs []string
	for _, m := range p.list {
		n, ok := p.v.Node(m.ID)
		if ok && m.Voter && m.ID != p.self && n.Status == fsm.NodeAlive && p.fit[m.ID].Fit {
			heirs = append(heirs, m.ID)
		}
	}
	slices.SortFunc(heirs, func(a, b string) int {
		return cmp.Or(cmp.Compare(p.fit[b].Applied, p.fit[a].Applied), cmp.Compare(a, b))
	})
	for _, id := range heirs {
		p.do(change{do: transfer, node: id, reason: "of the leader: " + why})
	}
}

// quorumWithout says whether the voters other than id have a majority that can
// acknowledge.
func quorumWithout(list []Voter, fit map[string]fitness, id string) bool {
	voters, able := 0, 0
	for _, m := range list {
		if m.ID == id || !m.Voter {
			continue
		}
		voters++
		if fit[m.ID].Fit {
			able++
		}
	}
	return able*2 > voters
}
