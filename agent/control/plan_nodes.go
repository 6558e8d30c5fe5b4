package control

import (
	"fmt"

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

// planVoters finds the next change of Raft's members: one a pass, since each
// waits for the one before. A node joins as a non-voter and gets its vote when it
// has caught up. One that leaves, or has been dead for long, goes when it has no
// rows, and only if the voters that remain have a majority alive.
func planVoters(v *fsm.State, list []Voter, caughtUp map[string]bool, cfg Config) (change, bool) {
	in := map[string]Voter{}
	for _, m := range list {
		in[m.ID] = m
	}
	for _, n := range v.Nodes {
		m, member := in[n.ID]
		switch {
		case n.Status == fsm.NodeLeft && member && quorumWithout(v, list, n.ID):
			return change{do: remove, node: n.ID, reason: "it has left"}, true
		case n.Status == fsm.NodeDraining || n.Status == fsm.NodeDead && cfg.Now()-n.Since >= cfg.ReapAfter.Milliseconds():
			if c, ok := part(v, n, list, member, cfg.Node); ok {
				return c, true
			}
		case n.Status != fsm.NodeAlive:
		case !member || m.Addr != n.RaftAddr:
			return change{do: addNonvoter, node: n.ID, addr: n.RaftAddr, reason: "it is in the table"}, true
		case !m.Voter && caughtUp[n.ID]:
			return change{do: addVoter, node: n.ID, addr: n.RaftAddr, reason: "it has caught up"}, true
		}
	}
	for _, m := range list {
		if _, ok := v.Node(m.ID); !ok && m.ID != cfg.Node && quorumWithout(v, list, m.ID) {
			return change{do: remove, node: m.ID, reason: "it is not in the table"}, true
		}
	}
	return change{}, false
}

// part lets a node go, step by step: its rows are made elsewhere first (see
// planRows), then leadership, then its vote, then its name. The vote goes before
// the name, for a node that reads that it has left may end at once.
func part(v *fsm.State, n fsm.Node, list []Voter, member bool, self string) (change, bool) {
	why := "it leaves"
	if n.Status == fsm.NodeDead {
		why = "it has been dead for long"
	}
	switch {
	case len(v.RowsOn(n.ID)) > 0:
		return change{}, false
	case !member:
		return change{do: setLeft, node: n.ID, reason: why}, true
	case n.ID == self:
		for _, m := range list {
			if o, ok := v.Node(m.ID); ok && m.Voter && m.ID != self && o.Status == fsm.NodeAlive {
				return change{do: transfer, node: m.ID, reason: "the leader leaves"}, true
			}
		}
		return change{}, false
	case !quorumWithout(v, list, n.ID):
		return change{}, false
	}
	return change{do: remove, node: n.ID, reason: why}, true
}

// quorumWithout says whether the voters other than id have a majority alive.
func quorumWithout(v *fsm.State, list []Voter, id string) bool {
	voters, alive := 0, 0
	for _, m := range list {
		if m.ID == id || !m.Voter {
			continue
		}
		voters++
		if n, ok := v.Node(m.ID); ok && (n.Status == fsm.NodeAlive || n.Status == fsm.NodeDraining) {
			alive++
		}
	}
	return alive*2 > voters
}
