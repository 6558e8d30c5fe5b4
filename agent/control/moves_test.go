package control

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"orch/fsm"
)

func rowsOn(v *fsm.State) map[string]int {
	on := map[string]int{}
	for _, r := range v.Rows("acts") {
		on[r.Node]++
	}
	return on
}

// TestDrainNode: its rows go elsewhere, one after the other, under their numbers and
// ports; undrained, it gets some back slowly.
func TestDrainNode(t *testing.T) {
	rolling(t, 6, nil, func(c *cluster, stop func()) {
		c.must(fsm.DrainNode{ID: "b", Deadline: stamp() + 600_000})
		if p := Upcoming(c.View(), stamp(), nil); len(p) != 1 || p[0].What != "move what is left off node b" || p[0].DueMS < 599_000 {
			t.Errorf("pending: %+v", p)
		}
		c.within(10*time.Second, "its rows are elsewhere", keeps(t, 6, 7, func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 && settled(6, "acts:1")(v) }))
		c.always(time.Minute, "it gets no more", func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 })
		if got := c.memberChanges(); len(got) > 0 {
			t.Errorf("it is a member as before, but %v", got)
		}
		stop()
		_, stop = c.lead("c")
		defer stop()
		c.must(fsm.DrainNode{ID: "b"})
		took := c.within(time.Minute, "it has its share again", keeps(t, 6, 7, func(v *fsm.State) bool { return rowsOn(v)["b"] == 2 && settled(6, "acts:1")(v) }))
		if took < 10*time.Second {
			t.Errorf("two rows moved back in %s; one after the other, with time between", took)
		}
		c.always(time.Minute, "and nothing moves any more", settled(6, "acts:1"))
	})
}

// TestDrainNodeDeadline: where no stand-in can be started, the rows go at the deadline.
func TestDrainNodeDeadline(t *testing.T) {
	full := func(row fsm.Container) (string, bool) {
		if row.Number > 3 {
			return "no memory left", false
		}
		return "", false
	}
	rolling(t, 3, full, func(c *cluster, _ func()) {
		c.must(fsm.DrainNode{ID: "b", Deadline: stamp() + 60_000})
		c.always(59*time.Second, "no stand-in, no move", healthyRows(3))
		c.within(10*time.Second, "moved at the deadline", func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 && len(v.Rotation("acts")) == 3 })
	})
}

// TestDrainOfADeadDaemon: no deadline frees a machine of what nobody can stop there, so
// that its rows wait for their stand-ins, one after the other.
func TestDrainOfADeadDaemon(t *testing.T) {
	rolling(t, 6, nil, func(c *cluster, _ func()) {
		c.set(func() { c.gossip["b"], c.silent["b"] = "dead", true })
		c.within(2*time.Second, "dead", status("b", fsm.NodeDead))
		c.must(fsm.DrainNode{ID: "b", Deadline: stamp() + 1})
		c.within(10*time.Second, "its rows are elsewhere", keeps(t, 6, 7, func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 && settled(6, "acts:1")(v) }))
	})
}

// TestDrainDeadlineInABadRollOut: what serves is not given up for what does not.
func TestDrainDeadlineInABadRollOut(t *testing.T) {
	rolling(t, 3, nil, func(c *cluster, _ func()) {
		c.must(fsm.PutService{Spec: release("broken")})
		c.must(fsm.DrainNode{ID: "b", Deadline: stamp() + 5_000})
		c.within(40*time.Second, "gone back", func(v *fsm.State) bool {
			back := outcome(2, fsm.Failed)(v)
			return back || !keeps(t, 3, 4, func(*fsm.State) bool { return true })(v)
		})
		c.within(10*time.Second, "and moved", func(v *fsm.State) bool { return len(v.RowsOn("b")) == 0 && settled(3, "acts:1")(v) })
	}, "broken")
}

// TestDrainOfTheOnlyNodeWaits.
func TestDrainOfTheOnlyNodeWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.owners("a")()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(2)})
		c.within(time.Second, "healthy", healthyRows(2))
		c.must(fsm.DrainNode{ID: "a", Deadline: stamp() + 1000})
		c.always(time.Minute, "nowhere to go", healthyRows(2))
	})
}

// TestNodeReturns: a lost node's rows run elsewhere, and come back one at a time.
func TestNodeReturns(t *testing.T) {
	rolling(t, 6, nil, func(c *cluster, _ func()) {
		c.set(func() { c.gossip["c"], c.silent["c"] = "dead", true })
		for _, r := range c.View().RowsOn("c") {
			c.net.stop(address(r))
		}
		c.within(5*time.Second, "its rows are elsewhere", func(v *fsm.State) bool { return len(v.RowsOn("c")) == 0 && len(v.Rotation("acts")) == 6 })
		c.always(30*time.Second, "where they stay", func(v *fsm.State) bool { return len(v.RowsOn("c")) == 0 })
		c.set(func() { c.gossip["c"], c.silent["c"] = "alive", false })
		c.within(2*time.Second, "it is back", func(v *fsm.State) bool { n, _ := v.Node("c"); return n.Status == fsm.NodeAlive })
		c.always(8*time.Second, "which is not trusted at once", func(v *fsm.State) bool { return len(v.RowsOn("c")) == 0 })
		c.within(time.Minute, "its share is back", keeps(t, 6, 7, func(v *fsm.State) bool { return rowsOn(v)["c"] == 2 && settled(6, "acts:1")(v) }))
	})
}

// TestBalanceIsQuiet: where there is nothing to gain, nothing moves.
func TestBalanceIsQuiet(t *testing.T) {
	rolling(t, 5, nil, func(c *cluster, _ func()) {
		before := c.generations()
		c.always(5*time.Minute, "as they are", c.sameGenerations(before))
		c.must(fsm.ScaleByHand{Service: "acts", Count: 4})
		c.within(time.Second, "four", healthyRows(4))
		delete(before, 5)
		c.within(time.Second, "without the fifth", c.sameGenerations(before))
		c.always(5*time.Minute, "as they are", c.sameGenerations(before))
	})
}

// TestNoPlanTakesWhatServes: whatever is released, drained and scaled, and however
// slowly nodes and drains follow, as many rows as are wanted serve all the time.
func TestNoPlanTakesWhatServes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for _, n := range w.s.Nodes {
			_ = w.apply(fsm.SetNodeStatus{ID: n.ID, Seen: w.index, Status: fsm.NodeAlive})
			_ = w.apply(fsm.DrainNode{ID: n.ID})
		}
		served := func(sv fsm.Service) int { return len(w.s.Rotation(sv.Name)) }
		followed := func(row fsm.Container, always bool) {
			phase := fsm.Running
			if row.Desired == fsm.Stopped {
				phase = fsm.Stopped
			}
			if !always && rapid.IntRange(0, 2).Draw(t, "slow") == 0 {
				return
			}
			_ = w.apply(fsm.Observe{Node: row.Node, Service: row.Service, Number: row.Number, Generation: row.Generation, Phase: phase})
		}
		pass := func(always bool, plans ...func() []Action) {
			w.now += 300
			for _, row := range w.s.Containers {
				followed(row, always)
			}
			for _, plan := range plans {
				for _, a := range plan() {
					_ = w.apply(a.Command)
				}
			}
		}
		health := func() []Action {
			seen := map[rowKey]observation{}
			for _, r := range w.s.Containers {
				seen[keyOf(r)] = observation{Probed: true, Healthy: true, Was: true}
			}
			return planHealth(w.s, seen, w.now, 0)
		}
		all := func() []Action {
			return planDrain(w.s, map[string]Report{"a": {Serving: w.index}, "b": {Serving: w.index}, "c": {Serving: w.index}}, w.now)
		}
		scale := func() []Action { return planScale(w.s, w.now) }
		rollout := func() []Action { return planRollout(w.s, w.now) }
		rows := func() []Action { return planRows(w.s, w.now) }
		for quiet := 0; quiet < 3; quiet++ { // to a quiet table first
			before := w.s.Changed
			pass(true, health, scale, rollout, rows, all)
			if w.s.Changed != before {
				quiet = -1
			}
		}
		enough := map[string]int{}
		for range 20 {
			switch rapid.IntRange(0, 15).Draw(t, "event") {
			case 0:
				service := fmt.Sprint("s", rapid.IntRange(0, 1).Draw(t, "service"))
				if spec, ok := w.s.Service(service); ok {
					spec.Spec.Image += "x"
					_ = w.apply(fsm.PutService{Spec: spec.Spec})
				}
			case 1:
				n := rapid.IntRange(0, 2).Draw(t, "node")
				_ = w.apply(fsm.DrainNode{ID: w.s.Nodes[n].ID, Deadline: w.now + 1e9})
				_ = w.apply(fsm.DrainNode{ID: w.s.Nodes[(n+1)%3].ID})
				_ = w.apply(fsm.DrainNode{ID: w.s.Nodes[(n+2)%3].ID})
			case 2:
				_ = w.apply(fsm.ScaleByHand{Service: "s0", Count: rapid.IntRange(1, 6).Draw(t, "count")})
				pass(false, scale)
			}
			for _, sv := range w.s.Services {
				enough[sv.Name] = min(served(sv), sv.Decision.Desired)
			}
			for _, plan := range rapid.Permutation([]func() []Action{health, rollout, rows, all}).Draw(t, "order") {
				pass(false, plan)
				for _, sv := range w.s.Services {
					if n := served(sv); n < enough[sv.Name] {
						t.Fatalf("%s: %d serve, %d did and %d are wanted\n%+v", sv.Name, n, enough[sv.Name], sv.Decision.Desired, w.s.Rows(sv.Name))
					}
				}
			}
		}
	})
}
