package agent

import (
	"cmp"
	"fmt"
	"strings"

	"orch/agent/api"
	"orch/fsm"
)

// unable says of each voter that can acknowledge nothing why, as far as its report tells;
// voters are all of them. The leader judges again, by what it sees over time.
func (n *Node) unable(v *fsm.State, reports map[string]api.Report) (voters []string, why map[string]string) {
	why = map[string]string{}
	members, err := n.raft.Members()
	if err != nil {
		return nil, why // the leader looks again
	}
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters = append(voters, m.ID)
		x, ok := v.Node(m.ID)
		r, answers := reports[m.ID]
		switch {
		case !ok || x.Status == fsm.NodeDead || x.Status == fsm.NodeLeft:
			why[m.ID] = "is " + cmp.Or(string(x.Status), "not in the table")
		case !answers:
			why[m.ID] = "does not answer"
		case r.Fenced:
			why[m.ID] = "is fenced (its disk takes no writes)"
		}
	}
	return voters, why
}

// lacking names the voters besides id that can acknowledge nothing, where the others are
// no majority without it; empty where they are.
func lacking(voters []string, why map[string]string, id string) string {
	all, able := 0, 0
	var lost []string
	for _, m := range voters {
		if m == id {
			continue
		}
		all++
		if reason, not := why[m]; not {
			lost = append(lost, fmt.Sprintf("%s %s", m, reason))
		} else {
			able++
		}
	}
	if all == 0 || able*2 > all {
		return ""
	}
	return strings.Join(lost, ", ")
}
