package control

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"orch/fsm"
)

func status(id string, want fsm.NodeStatus) func(*fsm.State) bool {
	return func(v *fsm.State) bool { n, _ := v.Node(id); return n.Status == want }
}

// A machine is lost: gossip and its API agree, its containers do not answer.
func TestLostNode(t *testing.T) {
	three(t, 6, func(c *cluster, _ *Control) {
		c.set(func() { c.gossip["b"] = "dead" })
		c.always(5*time.Second, "gossip alone kills nobody", func(v *fsm.State) bool {
			n, _ := v.Node("b")
			return n.Status != fsm.NodeDead && c.sameGenerations(map[int]uint64{1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1})(v)
		})
		var lost []fsm.Container
		for _, r := range c.View().RowsOn("b") {
			lost = append(lost, r)
			c.net.set(func() { c.net.cut[address(r)] = true })
			c.net.stop(address(r))
		}
		c.set(func() { c.silent["b"] = true })
		c.within(1500*time.Millisecond, "dead", status("b", fsm.NodeDead))
		took := c.within(2*time.Second, "its rows run elsewhere", func(v *fsm.State) bool {
			return len(v.RowsOn("b")) == 0 && healthyRows(6)(v)
		})
		if took > 200*time.Millisecond {
			t.Errorf("took %s from the node's death, of which the start is 100ms", took)
		}
		for _, old := range lost {
			r := row(t, c, old.Number)
			if r.Node == "b" || r.Port != old.Port || r.Generation != 2 {
				t.Errorf("before %+v\nafter %+v", old, r)
			}
		}
		if a, cc := len(c.View().RowsOn("a")), len(c.View().RowsOn("c")); a != 3 || cc != 3 {
			t.Errorf("a has %d rows, c %d", a, cc)
		}
		c.set(func() { c.gossip["b"] = "alive" })
		c.always(5*time.Second, "gossip alone revives nobody", status("b", fsm.NodeDead))
		c.set(func() { c.silent["b"] = false })
		c.within(1500*time.Millisecond, "back", status("b", fsm.NodeAlive))
		if got := c.memberChanges(); len(got) != 0 {
			t.Errorf("it has kept its vote? %v", got)
		}
	})
}

// A daemon is lost: its containers outlive it and serve on.
func TestLostDaemon(t *testing.T) {
	three(t, 6, func(c *cluster, _ *Control) {
		gens := c.generations()
		c.set(func() { c.gossip["b"], c.silent["b"] = "dead", true })
		c.within(1500*time.Millisecond, "dead", status("b", fsm.NodeDead))
		c.always(time.Minute, "its containers serve on", func(v *fsm.State) bool {
			return healthyRows(6)(v) && c.sameGenerations(gens)(v)
		})
		r := c.View().RowsOn("b")[0]
		c.net.container(address(r)).behave(true, false)
		c.within(2*time.Second, "one that fails is made elsewhere", func(*fsm.State) bool {
			now := row(t, c, r.Number)
			return now.Node != "b" && now.Status
		})
		c.must(fsm.ScaleByHand{Service: "acts", Count: 1})
		c.within(time.Second, "the others go without their node's word", func(v *fsm.State) bool { return len(v.Rows("acts")) == 1 })
	})
}

func TestNewNodeGetsItsVoteWhenCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		_, stop := c.lead("a")
		defer stop()
		c.set(func() { c.behind["b"] = 50 })
		for range 60 {
			c.must(fsm.Note{What: "test"})
		}
		c.join("b")
		c.within(time.Second, "a non-voter", func(*fsm.State) bool { return slices.Contains(c.memberChanges(), "nonvoter b") })
		c.always(10*time.Second, "not caught up", func(*fsm.State) bool { return len(c.memberChanges()) == 1 })
		c.set(func() { c.behind["b"] = 0 })
		c.within(1100*time.Millisecond, "a voter", func(*fsm.State) bool { return slices.Contains(c.memberChanges(), "voter b") })
		c.always(10*time.Second, "and that is all", func(*fsm.State) bool { return len(c.memberChanges()) == 2 })
	})
}

func TestPlanNodes(t *testing.T) {
	node := func(s fsm.NodeStatus) *fsm.State {
		return &fsm.State{Nodes: []fsm.Node{{ID: "b", Status: s, Index: 7}}}
	}
	for name, tc := range map[string]struct {
		is   fsm.NodeStatus
		s    sighting
		want fsm.NodeStatus
	}{
		"alive":                {fsm.NodeAlive, sighting{Gossip: "alive"}, ""},
		"short doubt":          {fsm.NodeAlive, sighting{Gossip: "suspect", For: 500 * time.Millisecond}, ""},
		"long doubt":           {fsm.NodeAlive, sighting{Gossip: "suspect", For: time.Second}, fsm.NodeSuspect},
		"doubt over":           {fsm.NodeSuspect, sighting{Gossip: "alive"}, fsm.NodeAlive},
		"dead, one witness":    {fsm.NodeAlive, sighting{Gossip: "dead", Answers: true}, fsm.NodeSuspect},
		"still one witness":    {fsm.NodeSuspect, sighting{Gossip: "dead", Answers: true}, ""},
		"dead, two witnesses":  {fsm.NodeSuspect, sighting{Gossip: "dead"}, fsm.NodeDead},
		"stopped on purpose":   {fsm.NodeAlive, sighting{Gossip: "left"}, fsm.NodeDead},
		"not met yet":          {fsm.NodeAlive, sighting{Gossip: "absent", For: time.Second}, ""},
		"never met":            {fsm.NodeAlive, sighting{Gossip: "absent", For: 3 * time.Second}, fsm.NodeDead},
		"absent but answers":   {fsm.NodeAlive, sighting{Gossip: "absent", For: time.Hour, Answers: true}, ""},
		"dead stays dead":      {fsm.NodeDead, sighting{Gossip: "dead"}, ""},
		"half back":            {fsm.NodeDead, sighting{Gossip: "alive"}, ""},
		"back":                 {fsm.NodeDead, sighting{Gossip: "alive", Answers: true}, fsm.NodeAlive},
		"draining stays":       {fsm.NodeDraining, sighting{Gossip: "alive"}, ""},
		"draining and doubted": {fsm.NodeDraining, sighting{Gossip: "suspect", For: time.Hour}, ""},
		"draining and dead":    {fsm.NodeDraining, sighting{Gossip: "dead"}, fsm.NodeDead},
		"left is left":         {fsm.NodeLeft, sighting{Gossip: "dead"}, ""},
	} {
		plan := planNodes(node(tc.is), "a", map[string]sighting{"b": tc.s})
		var got fsm.NodeStatus
		if len(plan) > 0 {
			cmd := plan[0].Command.(fsm.SetNodeStatus)
			got = cmd.Status
			if cmd.Seen != 7 || cmd.Reason == "" {
				t.Errorf("%s: %+v", name, cmd)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestPlanVoters(t *testing.T) {
	const day = int64(24 * time.Hour / time.Millisecond)
	cfg := Config{Node: "a", Now: func() int64 { return 10 * day }, ReapAfter: 24 * time.Hour}
	node := func(id string, s fsm.NodeStatus, since int64) fsm.Node {
		return fsm.Node{ID: id, Status: s, Since: since, RaftAddr: "raft-" + id}
	}
	a, b, c := node("a", fsm.NodeAlive, 0), node("b", fsm.NodeAlive, 0), node("c", fsm.NodeAlive, 0)
	voter := func(id string) Voter { return Voter{id, "raft-" + id, true} }
	all := []Voter{voter("a"), voter("b"), voter("c")}
	onB := []fsm.Container{{Service: "acts", Number: 1, Node: "b"}}
	for name, tc := range map[string]struct {
		nodes []fsm.Node
		rows  []fsm.Container
		list  []Voter
		ready map[string]bool
		want  string
	}{
		"all there":               {[]fsm.Node{a, b, c}, nil, all, nil, ""},
		"new":                     {[]fsm.Node{a, b, c}, nil, all[:2], nil, "add as non-voter c raft-c"},
		"moved":                   {[]fsm.Node{a, b, c}, nil, []Voter{voter("a"), voter("b"), {"c", "old", true}}, nil, "add as non-voter c raft-c"},
		"behind":                  {[]fsm.Node{a, b, c}, nil, []Voter{voter("a"), voter("b"), {"c", "raft-c", false}}, nil, ""},
		"caught up":               {[]fsm.Node{a, b, c}, nil, []Voter{voter("a"), voter("b"), {"c", "raft-c", false}}, map[string]bool{"c": true}, "give a vote to c raft-c"},
		"a dead one is not added": {[]fsm.Node{a, b, node("c", fsm.NodeDead, 10*day)}, nil, all[:2], nil, ""},
		"dead":                    {[]fsm.Node{a, b, node("c", fsm.NodeDead, 10*day)}, nil, all, nil, ""},
		"dead for long":           {[]fsm.Node{a, b, node("c", fsm.NodeDead, 9*day)}, nil, all, nil, "remove c "},
		"dead, without a vote":    {[]fsm.Node{a, b, node("c", fsm.NodeDead, 9*day)}, nil, all[:2], nil, "note as left c "},
		"dead, owns rows":         {[]fsm.Node{a, node("b", fsm.NodeDead, 0), c}, onB, all, nil, ""},
		"below a quorum":          {[]fsm.Node{a, node("b", fsm.NodeDead, 10*day), node("c", fsm.NodeDead, 9*day)}, nil, all, nil, ""},
		"leaves, owns rows":       {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), c}, onB, all, nil, ""},
		"leaves":                  {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), c}, nil, all, nil, "remove b "},
		"leaves, below a quorum":  {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), node("c", fsm.NodeDead, 10*day)}, nil, all, nil, ""},
		"leaves a pair":           {[]fsm.Node{a, node("b", fsm.NodeDraining, 0)}, nil, all[:2], nil, "remove b "},
		"leaves, vote is gone":    {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), c}, nil, []Voter{all[0], all[2]}, nil, "note as left b "},
		"the leader leaves":       {[]fsm.Node{node("a", fsm.NodeDraining, 0), node("b", fsm.NodeSuspect, 0), c}, nil, all, nil, "hand leadership to c "},
		"the last voter stays":    {[]fsm.Node{node("a", fsm.NodeDraining, 0)}, nil, all[:1], nil, ""},
		"left, has a vote":        {[]fsm.Node{a, node("b", fsm.NodeLeft, 0), c}, nil, all, nil, "remove b "},
		"left":                    {[]fsm.Node{a, node("b", fsm.NodeLeft, 0), c}, nil, []Voter{all[0], all[2]}, nil, ""},
		"removed from the table":  {[]fsm.Node{a, c}, nil, all, nil, "remove b "},
		"the first moments":       {nil, nil, all[:1], nil, ""},
	} {
		v := &fsm.State{Nodes: tc.nodes, Containers: tc.rows}
		got := ""
		if ch, ok := planVoters(v, tc.list, tc.ready, cfg); ok {
			got = string(ch.do) + " " + ch.node + " " + ch.addr
			if ch.reason == "" {
				t.Errorf("%s: no reason", name)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
