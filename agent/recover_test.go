package agent

import (
	"strings"
	"testing"

	"orch/agent/api"
)

// Where a cluster may be recovered: never beside a quorum, never from less than
// another survivor holds.
func TestWhereToRecover(t *testing.T) {
	at := func(term, index uint64) api.Holding { return api.Holding{Term: term, Index: index} }
	lost := func(id string) api.Survivor { return api.Survivor{ID: id, Voter: true} }
	there := func(id string, h api.Holding) api.Survivor {
		return api.Survivor{ID: id, Voter: true, Answers: true, Holds: h}
	}
	for name, c := range map[string]struct {
		p    api.Recovery
		says string // "" is allowed
	}{
		"the only one of three":         {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{lost("n2"), lost("n3")}}, ""},
		"a leader":                      {api.Recovery{Leader: "n2", Members: []api.Survivor{lost("n2"), lost("n3")}}, "node n2 leads"},
		"two of three":                  {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{there("n2", at(1, 1)), lost("n3")}}, "2 of 3 voters answer"},
		"two of four are no majority":   {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{there("n2", at(2, 8)), lost("n3"), lost("n4")}}, ""},
		"another holds a later index":   {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{there("n2", at(2, 10)), lost("n3"), lost("n4")}}, "node n2 holds more (term 2, index 10)"},
		"another holds a later term":    {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{there("n2", at(3, 4)), lost("n3"), lost("n4")}}, "node n2 holds more"},
		"one that is lost holds more":   {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Voter: true, Holds: at(9, 99)}, lost("n3")}}, ""},
		"a non-voter holds more":        {api.Recovery{Node: "n1", Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Answers: true, Holds: at(2, 10)}, lost("n3")}}, "node n2 holds more"},
		"a non-voter makes no majority": {api.Recovery{Holds: at(2, 9), Members: []api.Survivor{{ID: "n2", Answers: true, Holds: at(2, 9)}, lost("n3")}}, ""},
		"alone in its cluster":          {api.Recovery{Holds: at(2, 9)}, "1 of 1 voters answer"},
	} {
		if got := refused(c.p); !strings.Contains(got, c.says) || (c.says == "") != (got == "") {
			t.Errorf("%s: %q, want %q", name, got, c.says)
		}
	}
}
