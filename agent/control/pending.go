package control

import (
	"cmp"
	"fmt"
	"slices"

	"orch/fsm"
)

// Pending is something that will happen by itself. DueMS is 0 where it waits for
// something other than time; Reason says for what.
type Pending struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
	DueMS  int64  `json:"due_in_ms"`
}

// waiting marks what no clock decides.
const waiting = 0

// Upcoming says what will happen next and when, as any node can tell from its
// view: back-offs, drains, the next scale-down, nodes that are dead or leave. What
// is due first stands first. unable are the nodes that can acknowledge nothing, as far
// as is known: without a majority no vote is taken, however long a node is dead.
func Upcoming(v *fsm.State, now int64, unable map[string]string) []Pending {
	out := []Pending{}
	for _, row := range v.Containers {
		if p, ok := upcomingRow(v, row, now); ok {
			out = append(out, p)
		}
	}
	for _, sv := range v.Services {
		if p, ok := scaleDown(sv, now); ok {
			out = append(out, p)
		}
		if p, ok := upcomingRollout(v, sv, now); ok {
			out = append(out, p)
		}
	}
	for _, n := range v.Nodes {
		if p, ok := upcomingNode(v, n, now, unable); ok {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Pending) int {
		return cmp.Or(cmp.Compare(a.DueMS, b.DueMS), cmp.Compare(a.What, b.What))
	})
	return out
}

// Stalled is what is upcoming while no leader can do it: no clock decides then.
func Stalled(list []Pending) []Pending {
	for i := range list {
		list[i].DueMS = waiting
		list[i].Reason = "waits for a leader; " + list[i].Reason
	}
	return list
}

func upcomingRow(v *fsm.State, row fsm.Container, now int64) (Pending, bool) {
	name := fmt.Sprintf("%s/%d", row.Service, row.Number)
	n, _ := v.Node(row.Node)
	switch {
	case row.Desired == fsm.Stopped:
		return Pending{}, false // its node is about to
	case row.Desired == fsm.Draining && row.NextNode != "":
		return Pending{"begin " + name + " anew on " + row.NextNode, row.Reason + "; at the latest, when requests are still in flight", max(0, row.DrainDeadline-now)}, true
	case row.Desired == fsm.Draining:
		return Pending{"stop " + name, row.Reason + "; at the latest, when requests are still in flight", max(0, row.DrainDeadline-now)}, true
	case row.Status:
		return Pending{}, false
	case gone(n.Status):
		return Pending{"relaunch " + name, "node " + row.Node + " is " + string(n.Status) + "; it goes to another node that is alive", waiting}, true
	case row.RetryAt > max(row.Since, now):
		return Pending{"relaunch " + name, row.Reason, row.RetryAt - now}, true
	case row.Observed == fsm.Running:
		if left := row.Since + startLimit(v, row) - now; left > 0 {
			return Pending{"relaunch " + name, "unless it answers its health API first", left}, true
		}
	}
	return Pending{}, false
}

func upcomingNode(v *fsm.State, n fsm.Node, now int64, unable map[string]string) (Pending, bool) {
	rows := len(v.RowsOn(n.ID))
	switch {
	case n.Status == fsm.NodeDraining && rows == 0 && !majorityWithout(v, n.ID, unable):
		return Pending{"remove node " + n.ID, "it leaves, but its vote is needed until a majority of the others can acknowledge: start or mend those that can not, or 'orchctl remove' what is lost for good", waiting}, true
	case n.Status == fsm.NodeDraining:
		return Pending{"remove node " + n.ID, fmt.Sprintf("it leaves; %d of its containers are still to be moved elsewhere", rows), waiting}, true
	case n.DrainDeadline != 0 && rows > 0:
		return Pending{"move what is left off node " + n.ID, fmt.Sprintf("it is drained; %d of its containers are still to be moved, and then without waiting for a stand-in", rows), max(0, n.DrainDeadline-now)}, true
	case n.Status == fsm.NodeDead && !majorityWithout(v, n.ID, unable):
		return Pending{"remove node " + n.ID, "it is dead, and keeps its vote until a majority of the others can acknowledge: start or mend those that can not", waiting}, true
	case n.Status == fsm.NodeDead && rows > 0 && reaped(n, now):
		return Pending{"remove node " + n.ID, fmt.Sprintf("it has been dead for long; %d of its containers still answer and are to be made elsewhere first", rows), waiting}, true
	case n.Status == fsm.NodeDead:
		why := "it is dead, and loses its vote unless it returns"
		if n.Leaves {
			why = "it was told to leave, and is dead: it goes on with that as soon as it returns, and loses its vote if it does not"
		}
		return Pending{"remove node " + n.ID, why, max(0, n.Since+reapAfter.Milliseconds()-now)}, true
	}
	return Pending{}, false
}

// majorityWithout says whether most of the nodes besides id can acknowledge, as far as a
// view can tell who has a vote.
func majorityWithout(v *fsm.State, id string, unable map[string]string) bool {
	all, alive := 0, 0
	for _, n := range v.Nodes {
		if n.ID == id || n.Status == fsm.NodeLeft {
			continue
		}
		all++
		if _, not := unable[n.ID]; !not && !gone(n.Status) {
			alive++
		}
	}
	return alive*2 > all
}

// scaleDown finds the second at which a service will shrink if no request comes.
func scaleDown(sv fsm.Service, now int64) (Pending, bool) {
	current := sv.Decision.Desired
	if sv.Manual != 0 || sv.Removing || current <= sv.Spec.Scale.Min {
		return Pending{}, false
	}
	if want(sv.Spec.Scale, requestsUntil(sv, now/1000-1)) >= current {
		return Pending{}, false // the requests that it has ask for no less
	}
	for s := int64(1); s <= seconds(sv.Spec.Scale.Window)+seconds(sv.Spec.Scale.Cooldown)+1; s++ {
		if d := decide(sv, now+s*1000); d.Desired < current {
			return Pending{
				What:   fmt.Sprintf("scale %s from %d to %d", sv.Name, current, d.Desired),
				Reason: "fewer requests, unless more come", DueMS: s * 1000,
			}, true
		}
	}
	return Pending{}, false
}
