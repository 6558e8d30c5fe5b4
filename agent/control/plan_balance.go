package control

import (
	"cmp"

	"orch/fsm"
)

// move is a row that goes to another node; the zero value is none.
type move struct {
	service string
	number  int
	to      string // node
}

func (m move) is(row fsm.Container) bool { return m.service == row.Service && m.number == row.Number }

// balance finds the row that moves next, so that a node that has returned, or has
// joined, gets its share: from the node with the most rows, where that has at least two
// more than the one with the fewest, the row with the highest port. It waits for quiet:
// one row at a time, every row healthy for a while, no roll-out and no drain. Rows that
// only stand in do not count, or each move would seem done before it has begun.
func balance(v *fsm.State, now int64) move {
	counts := map[string]int{}
	for _, n := range v.Nodes {
		switch {
		case n.Leaving() || gone(n.Status):
		case n.Status != fsm.NodeAlive || now-n.Since < fsm.StableAfter:
			return move{}
		default:
			counts[n.ID] = 0
		}
	}
	var kept []fsm.Container
	for _, sv := range v.Services {
		s := staffOf(v, sv, move{}, now)
		if len(s.kept) < s.wanted || s.renewing+len(s.wrong) > 0 {
			return move{}
		}
		kept = append(kept, s.kept...)
	}
	for _, row := range kept {
		if !row.Status || now-row.Since < fsm.StableAfter {
			return move{}
		}
		if _, takes := counts[row.Node]; takes {
			counts[row.Node]++
		}
	}
	most, fewest := "", ""
	for id, n := range counts {
		if most == "" || cmp.Or(cmp.Compare(n, counts[most]), cmp.Compare(most, id)) > 0 {
			most = id
		}
		if fewest == "" || cmp.Or(cmp.Compare(n, counts[fewest]), cmp.Compare(id, fewest)) < 0 {
			fewest = id
		}
	}
	if counts[most]-counts[fewest] < 2 {
		return move{}
	}
	var last fsm.Container
	for _, row := range kept {
		if row.Node == most && row.Port > last.Port {
			last = row
		}
	}
	return move{last.Service, last.Number, fewest}
}
