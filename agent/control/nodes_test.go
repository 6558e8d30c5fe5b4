package control

import (
	"slices"
	"strings"
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

// TestNewNodeGetsItsVoteWhenStable: not before it has caught up, and has gone on to
// keep up without a break.
func TestNewNodeGetsItsVoteWhenStable(t *testing.T) {
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
		c.always(1800*time.Millisecond, "not for long enough", func(*fsm.State) bool { return len(c.memberChanges()) == 1 })
		c.set(func() { c.unheard["b"] = true })
		c.always(300*time.Millisecond, "a heartbeat is lost", func(*fsm.State) bool { return len(c.memberChanges()) == 1 })
		c.set(func() { c.unheard["b"] = false })
		took := c.within(3*time.Second, "a voter", func(*fsm.State) bool { return slices.Contains(c.memberChanges(), "voter b") })
		if took < defaultStable {
			t.Errorf("it had its vote %s after the break", took)
		}
		c.always(10*time.Second, "and that is all", func(*fsm.State) bool { return len(c.memberChanges()) == 2 })
	})
}

// TestNoVoteIsTakenFromTheQuorum: one that is alive, and can not acknowledge, is none of
// the majority that remains.
func TestNoVoteIsTakenFromTheQuorum(t *testing.T) {
	for name, fault := range map[string]func(c *cluster, is bool){
		"its disk is full":                 func(c *cluster, is bool) { c.fenced["c"] = is },
		"its API does not answer":          func(c *cluster, is bool) { c.silent["c"] = is },
		"heartbeats do not reach it":       func(c *cluster, is bool) { c.unheard["c"] = is },
		"it says that none reaches it":     func(c *cluster, is bool) { c.deaf["c"] = is },
		"what it has applied stands still": func(c *cluster, is bool) { c.behind["c"] = map[bool]uint64{true: 4}[is] },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, "a", "b", "c")
				c.set(func() { fault(c, true) })
				_, stop := c.lead("a")
				defer stop()
				b, _ := c.View().Node("b")
				c.must(fsm.SetNodeStatus{ID: "b", Seen: b.Index, Status: fsm.NodeDraining, Reason: "it was told to leave"})
				c.always(time.Minute, "its vote is needed", func(*fsm.State) bool { return len(c.memberChanges()) == 0 })
				c.set(func() { fault(c, false) })
				c.within(3*time.Second, "it has left", status("b", fsm.NodeLeft))
			})
		})
	}
}

// TestLeadershipGoesToWhoCanLead: to a fit voter, the newest first, and to another one
// where that fails.
func TestLeadershipGoesToWhoCanLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c", "d", "e")
		c.set(func() {
			c.fenced["b"], c.unheard["c"], c.refuses["transfer d"] = true, true, true
		})
		_, stop := c.lead("a")
		defer stop()
		a, _ := c.View().Node("a")
		c.must(fsm.SetNodeStatus{ID: "a", Seen: a.Index, Status: fsm.NodeDraining, Reason: "it was told to leave"})
		c.within(2*time.Second, "handed over", func(*fsm.State) bool { return len(c.memberChanges()) > 0 })
		if got := c.memberChanges()[0]; got != "transfer e" {
			t.Errorf("%s", got)
		}
	})
}

// TestHeirs: the one with the newest state first.
func TestHeirs(t *testing.T) {
	v := &fsm.State{Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeDraining}, {ID: "b", Status: fsm.NodeAlive}, {ID: "c", Status: fsm.NodeAlive}, {ID: "d", Status: fsm.NodeSuspect}}}
	list := []Voter{{"a", "", true}, {"b", "", true}, {"c", "", true}, {"d", "", true}}
	fit := map[string]fitness{"b": {Fit: true, Applied: 7}, "c": {Fit: true, Applied: 9}, "d": {Fit: true, Applied: 9}}
	var got []string
	for _, ch := range planVoters(v, list, fit, Config{Node: "a", Now: func() int64 { return 0 }}) {
		got = append(got, ch.name())
	}
	if want := []string{"hand leadership to c", "hand leadership to b"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestNewNameAtAnOldAddress: a machine that was lost is set up anew under another name.
func TestNewNameAtAnOldAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c", "z")
		c.set(func() { c.refuses["nonvoter z"] = true; delete(c.voters, "z") }) // whatever the reason
		_, stop := c.lead("a")
		defer stop()
		c.set(func() { c.gossip["c"], c.silent["c"] = "dead", true })
		c.within(2*time.Second, "dead", status("c", fsm.NodeDead))
		c.always(10*time.Second, "it keeps its vote", func(*fsm.State) bool { return len(c.memberChanges()) == 0 })
		c.must(fsm.PutNode{Node: fsm.Node{ID: "b2", Addr: "c", APIAddr: "api-c", RaftAddr: "raft-c"}})
		c.set(func() { c.gossip["b2"] = "alive" })
		c.within(10*time.Second, "the new one has a vote", func(*fsm.State) bool { return slices.Contains(c.memberChanges(), "voter b2") })
		if got := c.memberChanges(); !slices.Equal(got, []string{"remove c", "nonvoter b2", "voter b2"}) {
			t.Errorf("%v", got)
		}
	})
}

// TestDeadForADay: a daemon that does not come back loses its vote, and what still runs
// there is made elsewhere first.
func TestDeadForADay(t *testing.T) {
	rolling(t, 6, nil, func(c *cluster, stop func()) {
		c.set(func() { c.gossip["b"], c.silent["b"] = "dead", true })
		c.within(2*time.Second, "dead", status("b", fsm.NodeDead))
		stop()
		<-time.After(reapAfter - time.Minute) // of the bubble; a day of polling takes minutes
		_, stop = c.lead("c")
		defer stop()
		c.always(50*time.Second, "it may come back", func(v *fsm.State) bool { return len(v.RowsOn("b")) == 2 && len(v.Rotation("acts")) == 6 })
		c.within(time.Minute, "its rows are elsewhere", keeps(t, 6, 7, func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 && settled(6, "acts:1")(v) }))
		c.within(time.Minute, "it is out", status("b", fsm.NodeLeft))
		if got := c.memberChanges(); !slices.Equal(got, []string{"remove b"}) {
			t.Errorf("%v", got)
		}
	})
}

// TestLeaveOutlivesADeath: a daemon that is down while it leaves, whatever the reason,
// is not taken for one that stays when it returns. What runs there is made elsewhere
// meanwhile, and nothing of it comes back.
func TestLeaveOutlivesADeath(t *testing.T) {
	for name, containers := range map[string]bool{"its containers serve on": true, "its machine restarts": false} {
		t.Run(name, func(t *testing.T) {
			rolling(t, 6, nil, func(c *cluster, stop func()) {
				c.set(func() { c.refuses["remove b"] = true }) // it is on its way for as long as that
				b, _ := c.View().Node("b")
				c.must(fsm.SetNodeStatus{ID: "b", Seen: b.Index, Status: fsm.NodeDraining, Reason: "it was told to leave"})
				c.set(func() { c.gossip["b"], c.silent["b"] = "dead", true })
				if !containers {
					for _, r := range c.View().RowsOn("b") {
						c.net.stop(address(r))
					}
				}
				c.within(2*time.Second, "dead", status("b", fsm.NodeDead))
				if said := Upcoming(c.View(), stamp(), nil); !slices.ContainsFunc(said, func(p Pending) bool {
					return p.What == "remove node b" && strings.Contains(p.Reason, "as soon as it returns")
				}) {
					t.Errorf("pending: %+v", said)
				}
				moved := func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 && settled(6, "acts:1")(v) }
				if containers {
					moved = keeps(t, 6, 7, moved)
				}
				c.within(10*time.Second, "its rows are elsewhere", moved)
				stop() // it is the table that remembers
				_, stop = c.lead("c")
				defer stop()
				c.always(time.Minute, "it is waited for", status("b", fsm.NodeDead))
				c.set(func() { c.gossip["b"], c.silent["b"], c.refuses["remove b"] = "alive", false, false })
				c.within(2*time.Second, "it goes on to leave, and has left", func(v *fsm.State) bool {
					if n, _ := v.Node("b"); n.Status == fsm.NodeAlive {
						c.t.Fatal("it stays")
					}
					return status("b", fsm.NodeLeft)(v)
				})
				c.always(time.Minute, "and nothing moves back", func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 && settled(6, "acts:1")(v) })
			})
		})
	}
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
	cfg := Config{Node: "a", Now: func() int64 { return 10 * day }, Stable: 2 * time.Second}
	node := func(id string, s fsm.NodeStatus, since int64) fsm.Node {
		return fsm.Node{ID: id, Status: s, Since: since, RaftAddr: "raft-" + id}
	}
	at := func(id, addr string) fsm.Node { return fsm.Node{ID: id, Status: fsm.NodeAlive, RaftAddr: addr} }
	a, b, c := node("a", fsm.NodeAlive, 0), node("b", fsm.NodeAlive, 0), node("c", fsm.NodeAlive, 0)
	voter := func(id string) Voter { return Voter{id, "raft-" + id, true} }
	all := []Voter{voter("a"), voter("b"), voter("c")}
	onB := []fsm.Container{{Service: "acts", Number: 1, Node: "b"}}
	for name, tc := range map[string]struct {
		nodes []fsm.Node
		rows  []fsm.Container
		list  []Voter
		unfit map[string]bool
		want  string
	}{
		"all there":                    {[]fsm.Node{a, b, c}, nil, all, nil, ""},
		"new":                          {[]fsm.Node{a, b, c}, nil, all[:2], nil, "add as non-voter c raft-c"},
		"moved":                        {[]fsm.Node{a, b, c}, nil, []Voter{voter("a"), voter("b"), {"c", "old", true}}, nil, "add as non-voter c raft-c"},
		"behind":                       {[]fsm.Node{a, b, c}, nil, []Voter{voter("a"), voter("b"), {"c", "raft-c", false}}, map[string]bool{"c": true}, ""},
		"caught up":                    {[]fsm.Node{a, b, c}, nil, []Voter{voter("a"), voter("b"), {"c", "raft-c", false}}, nil, "give a vote to c raft-c"},
		"a dead one is not added":      {[]fsm.Node{a, b, node("c", fsm.NodeDead, 10*day)}, nil, all[:2], nil, ""},
		"dead":                         {[]fsm.Node{a, b, node("c", fsm.NodeDead, 10*day)}, nil, all, nil, ""},
		"dead for long":                {[]fsm.Node{a, b, node("c", fsm.NodeDead, 9*day)}, nil, all, nil, "remove c "},
		"dead, without a vote":         {[]fsm.Node{a, b, node("c", fsm.NodeDead, 9*day)}, nil, all[:2], nil, "note as left c "},
		"dead, owns rows":              {[]fsm.Node{a, node("b", fsm.NodeDead, 0), c}, onB, all, nil, ""},
		"below a quorum":               {[]fsm.Node{a, node("b", fsm.NodeDead, 10*day), node("c", fsm.NodeDead, 9*day)}, nil, all, nil, ""},
		"leaves, owns rows":            {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), c}, onB, all, nil, ""},
		"leaves":                       {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), c}, nil, all, nil, "remove b "},
		"leaves, below a quorum":       {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), node("c", fsm.NodeDead, 10*day)}, nil, all, nil, ""},
		"leaves one that is fit":       {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), c}, nil, all, map[string]bool{"c": true}, ""},
		"left, the other is not fit":   {[]fsm.Node{a, node("b", fsm.NodeLeft, 0), c}, nil, all, map[string]bool{"c": true}, ""},
		"the heir is not fit":          {[]fsm.Node{node("a", fsm.NodeDraining, 0), b, c}, nil, all, map[string]bool{"b": true}, "hand leadership to c "},
		"at the address of a dead one": {[]fsm.Node{a, node("b", fsm.NodeDead, 10*day), c, at("d", "raft-b")}, nil, all, nil, "remove b "},
		"of one that is needed":        {[]fsm.Node{a, node("b", fsm.NodeDead, 10*day), c, at("d", "raft-b")}, nil, all, map[string]bool{"c": true}, ""},
		"of one that moves":            {[]fsm.Node{a, at("b", "raft-x"), c, at("d", "raft-b")}, nil, all, nil, "add as non-voter b raft-x"},
		"two exchange addresses":       {[]fsm.Node{a, at("b", "raft-c"), at("c", "raft-b")}, nil, all, nil, "remove c "},
		"leaves a pair":                {[]fsm.Node{a, node("b", fsm.NodeDraining, 0)}, nil, all[:2], nil, "remove b "},
		"leaves, vote is gone":         {[]fsm.Node{a, node("b", fsm.NodeDraining, 0), c}, nil, []Voter{all[0], all[2]}, nil, "note as left b "},
		"the leader leaves":            {[]fsm.Node{node("a", fsm.NodeDraining, 0), node("b", fsm.NodeSuspect, 0), c}, nil, all, nil, "hand leadership to c "},
		"the last voter stays":         {[]fsm.Node{node("a", fsm.NodeDraining, 0)}, nil, all[:1], nil, ""},
		"left, has a vote":             {[]fsm.Node{a, node("b", fsm.NodeLeft, 0), c}, nil, all, nil, "remove b "},
		"left":                         {[]fsm.Node{a, node("b", fsm.NodeLeft, 0), c}, nil, []Voter{all[0], all[2]}, nil, ""},
		"removed from the table":       {[]fsm.Node{a, c}, nil, all, nil, "remove b "},
		"the first moments":            {nil, nil, all[:1], nil, ""},
	} {
		v := &fsm.State{Nodes: tc.nodes, Containers: tc.rows}
		fit := map[string]fitness{}
		for _, n := range tc.nodes {
			able := (n.Status == fsm.NodeAlive || n.Status == fsm.NodeDraining) && !tc.unfit[n.ID]
			fit[n.ID] = fitness{Fit: able, For: time.Minute}
		}
		got := ""
		if plan := planVoters(v, tc.list, fit, cfg); len(plan) > 0 {
			ch := plan[0]
			got = ch.name() + " " + ch.addr
			if ch.reason == "" {
				t.Errorf("%s: no reason", name)
			}
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}
