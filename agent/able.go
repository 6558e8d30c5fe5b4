package agent

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"orch/agent/api"
	"orch/fsm"
)

// judgeTimeout bounds the questions that are asked before a vote goes: who is slow is not
// lost, and a connection alone may take half of it.
const judgeTimeout = time.Second

// judge is unable of reports that are asked for now.
func (n *Node) judge(ctx context.Context, v *fsm.State) (voters []string, why map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, judgeTimeout)
	defer cancel()
	return n.unable(v, n.reports(ctx, v))
}

// unable says of each voter that can acknowledge nothing why, as far as its report and, on
// the leader, its own heartbeats tell; voters are all of them. The roll of the leader judges
// by what it sees over time, too. Where nobody leads, that one hears no leader says nothing.
func (n *Node) unable(v *fsm.State, reports map[string]api.Report) (voters []string, why map[string]string, err error) {
	why = map[string]string{}
	members, err := n.raft.Members()
	if err != nil {
		return nil, why, err
	}
	led, silent := n.leader() != "", n.raft.Silent()
	for _, m := range members {
		if !m.Voter {
			continue
		}
		voters = append(voters, m.ID)
		x, ok := v.Node(m.ID)
		r, answers := reports[m.ID]
		_, unheard := silent[m.ID]
		switch {
		case !ok || x.Status == fsm.NodeDead || x.Status == fsm.NodeLeft:
			why[m.ID] = "is " + cmp.Or(string(x.Status), "not in the table")
		case !answers:
			why[m.ID] = "does not answer"
		case r.Fenced:
			why[m.ID] = "is fenced (its disk takes no writes)"
		case unheard, r.NoLeader && led:
			why[m.ID] = "does not hear the leader (is its Raft port, 7481, open?)"
		}
	}
	return voters, why, nil
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
