package control

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orch/fsm"
)

// Draining ends when every node serves from the new table and has nothing in
// flight, and not before.
func TestDrainWaitsForEveryNode(t *testing.T) {
	three(t, 3, func(c *cluster, _ *Control) {
		victim := rowKey{"acts", 3, 1}
		c.set(func() {
			c.inFlight["b"] = map[rowKey]int{victim: 1}
			c.behind["c"] = 5
		})
		drained := func(v *fsm.State) bool { r, ok := v.Container("acts", 3); return ok && r.Desired == fsm.Draining }
		c.must(fsm.ScaleByHand{Service: "acts", Count: 2})
		c.within(time.Second, "draining", drained)
		c.always(5*time.Second, "b has a request in flight, c an old table", drained)
		c.set(func() { c.inFlight["b"] = nil })
		c.always(5*time.Second, "c has an old table", drained)
		c.set(func() { c.behind["c"], c.silent["c"] = 0, true })
		c.always(2*time.Second, "c does not answer", drained)
		c.set(func() { c.silent["c"] = false })
		took := c.within(time.Second, "stopped and gone", func(v *fsm.State) bool { return len(v.Containers) == 2 })
		if took > 2*drainInterval {
			t.Errorf("took %s", took)
		}
	})
}

func TestDrainDeadline(t *testing.T) {
	three(t, 2, func(c *cluster, _ *Control) {
		c.set(func() { c.inFlight["a"] = map[rowKey]int{{"acts", 2, 1}: 1} })
		c.must(fsm.ScaleByHand{Service: "acts", Count: 1})
		c.within(time.Second, "draining", healthyRows(1))
		p := Upcoming(c.View(), stamp(), nil)
		if len(p) != 1 || p[0].What != "stop acts/2" || p[0].DueMS < 29_000 || p[0].DueMS > 30_000 {
			t.Errorf("pending: %+v", p)
		}
		took := c.within(40*time.Second, "gone", func(v *fsm.State) bool { return len(v.Containers) == 1 })
		if took < 29*time.Second || took > 30500*time.Millisecond {
			t.Errorf("took %s of a drain of 30s", took)
		}
	})
}

// TestDrainSaysWhoHeldIt: a drain that ended by its deadline names the node, and by what.
func TestDrainSaysWhoHeldIt(t *testing.T) {
	row := fsm.Container{Service: "acts", Number: 1, Generation: 1, Node: "a", Desired: fsm.Draining, Observed: fsm.Running, DrainDeadline: 1, Index: 7}
	v := &fsm.State{Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeAlive}, {ID: "b", Status: fsm.NodeAlive}}, Containers: []fsm.Container{row}}
	passed := Report{Serving: 7}
	for want, b := range map[string]*Report{
		"no node has requests on it":                nil,
		"node b still served from an older table":   {Serving: 6},
		"requests from node b were still in flight": {Serving: 7, Loads: []Load{{Service: "acts", Number: 1, Generation: 1, InFlight: 2}}},
		"node b did not answer":                     {},
	} {
		reports := map[string]Report{"a": passed}
		switch {
		case b == nil:
			reports["b"] = passed
		case b.Serving > 0:
			reports["b"] = *b
		}
		plan := planDrain(v, reports, 1)
		if len(plan) != 1 || !strings.Contains(plan[0].Command.(fsm.Stop).Reason+plan[0].Reason, want) {
			t.Errorf("%+v, want one for %q", plan, want)
		}
	}
}

// Nothing is ever taken out before others are there in its place.
func TestLeave(t *testing.T) {
	for _, leaver := range []string{"a", "b"} { // the leader itself, and another
		t.Run(leaver, func(t *testing.T) {
			three(t, 5, func(c *cluster, ctl *Control) {
				n, _ := c.View().Node(leaver)
				c.must(fsm.SetNodeStatus{ID: leaver, Seen: n.Index, Status: fsm.NodeDraining, Reason: "orchctl leave"})
				enough := true
				c.within(20*time.Second, "its rows are elsewhere", func(v *fsm.State) bool {
					enough = enough && len(v.Rotation("acts")) >= 5
					return len(v.RowsOn(leaver)) == 0
				})
				if !enough {
					t.Error("fewer than 5 in rotation on the way")
				}
				if leaver == "a" {
					c.within(3*time.Second, "leadership handed over", func(*fsm.State) bool {
						return slices.Contains(c.memberChanges(), "transfer b")
					})
					_, stop := c.lead("b") // and the old term goes on beside it
					defer stop()
				}
				c.within(5*time.Second, "left", func(v *fsm.State) bool { n, _ := v.Node(leaver); return n.Status == fsm.NodeLeft })
				if _, still := c.voters[leaver]; still {
					t.Error("it still has a vote")
				}
				c.within(time.Second, "the stand-in has gone", func(v *fsm.State) bool { return len(v.Rows("acts")) == 5 })
				c.always(30*time.Second, "five elsewhere", healthyRows(5))
				for i, row := range c.View().Rows("acts") {
					if row.Number != i+1 || row.Port != 8000+i {
						t.Errorf("row %d has port %d", row.Number, row.Port)
					}
				}
			})
		})
	}
}

func TestLeaveOfTheLastNodeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.owners("a")()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(2)})
		c.within(time.Second, "healthy", healthyRows(2))
		n, _ := c.View().Node("a")
		c.must(fsm.SetNodeStatus{ID: "a", Seen: n.Index, Status: fsm.NodeDraining})
		c.always(time.Minute, "nowhere to go: it serves on", healthyRows(2))
		if p := Upcoming(c.View(), stamp(), nil); len(p) != 1 || p[0].What != "remove node a" || p[0].DueMS != waiting {
			t.Errorf("pending: %+v", p)
		}
	})
}

func TestPlacing(t *testing.T) {
	v := &fsm.State{
		Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeAlive}, {ID: "b", Status: fsm.NodeAlive}, {ID: "c", Status: fsm.NodeSuspect}, {ID: "d", Status: fsm.NodeDraining}},
		Containers: []fsm.Container{
			{Service: "acts", Number: 1, Node: "a", Port: 8000}, {Service: "acts", Number: 2, Node: "c", Port: 8998},
		},
	}
	p := newPlacing(v)
	var nodes []string
	for range 4 {
		n, _ := p.node("")
		nodes = append(nodes, n)
	}
	if !slices.Equal(nodes, []string{"b", "a", "b", "a"}) {
		t.Errorf("nodes %v", nodes)
	}
	if n, _ := p.node("a"); n != "b" {
		t.Errorf("except a: %s", n)
	}
	var ports []int
	for range 3 {
		ports = append(ports, p.port(8500))
	}
	if !slices.Equal(ports, []int{8999, 8500, 8501}) {
		t.Errorf("ports %v", ports)
	}
	for range 2000 {
		p.port(8500)
	}
	if got := p.port(8500); got != 0 {
		t.Errorf("a port beyond all: %d", got)
	}
	if got := newPlacing(&fsm.State{}).port(8500); got != 8500 {
		t.Errorf("first port %d", got)
	}
	if n, ok := newPlacing(&fsm.State{}).node(""); ok {
		t.Errorf("a node of none: %q", n)
	}
}

// Scaling down never takes the last container that answers.
func TestScaleDownKeepsTheLastHealthy(t *testing.T) {
	v := &fsm.State{Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeAlive}}}
	sv := fsm.Service{Name: "acts", Spec: spec(1), Decision: fsm.Decision{Desired: 1}}
	v.Services = []fsm.Service{sv}
	for n := 1; n <= 3; n++ {
		v.Containers = append(v.Containers, fsm.Container{
			Service: "acts", Number: n, Generation: 1, Node: "a", Port: 7999 + n, Desired: fsm.Running, Observed: fsm.Running, Status: n == 3,
		})
	}
	plan := planRows(v, 0)
	if len(plan) != 1 || plan[0].Command.(fsm.Drain).Row.Number != 2 {
		t.Fatalf("plan %+v", plan)
	}
	v.Containers[0].Status = true
	plan = planRows(v, 0)
	if len(plan) != 2 || plan[0].Command.(fsm.Drain).Row.Number != 3 {
		t.Fatalf("with another healthy one: %+v", plan)
	}
}
