package control

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orch/fsm"
)

// three runs a cluster of three nodes that own n healthy containers, led by a.
func three(t *testing.T, n int, test func(c *cluster, ctl *Control)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.owners("a", "b", "c")()
		ctl, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(1)})
		c.must(fsm.ScaleByHand{Service: "acts", Count: n})
		c.within(2*time.Second, "all containers healthy", healthyRows(n))
		test(c, ctl)
	})
}

func row(t *testing.T, c *cluster, number int) fsm.Container {
	t.Helper()
	r, ok := c.View().Container("acts", number)
	if !ok {
		t.Fatalf("no row acts/%d", number)
	}
	return r
}

func TestServiceStarts(t *testing.T) {
	three(t, 5, func(c *cluster, _ *Control) {
		perNode := map[string]int{}
		for i, r := range c.View().Rows("acts") {
			perNode[r.Node]++
			if r.Number != i+1 || r.Port != 8000+i {
				t.Errorf("row %d is acts/%d on port %d", i, r.Number, r.Port)
			}
		}
		if perNode["a"] != 2 || perNode["b"] != 2 || perNode["c"] != 1 {
			t.Errorf("spread is %v", perNode)
		}
		c.always(time.Minute, "a healthy cluster is left alone", c.sameGenerations(map[int]uint64{1: 1, 2: 1, 3: 1, 4: 1, 5: 1}))
	})
}

func TestCrashFlagHeals(t *testing.T) {
	three(t, 3, func(c *cluster, _ *Control) {
		before := row(t, c, 2)
		c.net.container(address(before)).behave(true, false)
		out := c.within(1100*time.Millisecond, "out of rotation", healthyRows(2))
		c.within(time.Second, "healed", healthyRows(3))
		after := row(t, c, 2)
		if after.Port != before.Port || after.Node != before.Node || after.Generation != 2 {
			t.Errorf("before %+v\nafter %+v", before, after)
		}
		if !strings.Contains(c.dump(), "relaunched acts/2 b: port 8001 generation 2: 500") {
			t.Errorf("out after %s; the event does not name the reason:\n%s", out, c.dump())
		}
	})
}

func TestSuspectIsProbedAtOnce(t *testing.T) {
	three(t, 3, func(c *cluster, ctl *Control) {
		r := row(t, c, 1)
		c.always(10*time.Second+300*time.Millisecond, "quiet", healthyRows(3))
		c.net.container(address(r)).behave(true, false)
		ctl.Suspect("acts", 1, r.Generation)
		c.within(50*time.Millisecond, "out of rotation at once", healthyRows(2))
		ctl.Suspect("acts", 99, 1)
		ctl.Suspect("acts", 1, 77) // neither exists
		c.within(time.Second, "healed", healthyRows(3))
	})
}

func TestSuspectedWhileBusy(t *testing.T) {
	h := newHealth(&term{Control: New(Config{Node: "a", Now: stamp}, newCluster(t), nil, nil, nil, nil)})
	k := rowKey{"acts", 1, 1}
	w := &watch{busy: true, last: time.Now(), next: time.Now().Add(time.Hour), obs: observation{Was: true}}
	h.watches[k], h.busy, h.began = w, 1, time.Now()
	h.suspected(k)
	h.take(result{key: k})
	if due := time.Until(w.next); due > 0 || w.busy || h.busy != 0 {
		t.Errorf("due in %s: %+v", due, w)
	}
	h.suspected(k)
	if due := time.Until(w.next); due > 0 {
		t.Errorf("due in %s", due)
	}
}

func TestPausedContainerHeals(t *testing.T) {
	three(t, 3, func(c *cluster, _ *Control) {
		r := row(t, c, 3)
		c.net.container(address(r)).behave(false, true)
		c.within(2500*time.Millisecond, "relaunched", func(*fsm.State) bool { return row(t, c, 3).Generation == 2 })
		if got := c.View().Events; !strings.Contains(got[len(got)-1].Reason, "timeout 750ms") {
			t.Errorf("reason is %q", got[len(got)-1].Reason)
		}
	})
}

// The owner's word is enough: nobody has to probe a container that has ended.
func TestStoppedIsRelaunchedAtOnce(t *testing.T) {
	three(t, 3, func(c *cluster, _ *Control) {
		r := row(t, c, 1)
		c.net.stop(address(r))
		c.must(fsm.Observe{Node: r.Node, Service: "acts", Number: 1, Generation: 1, Phase: fsm.Stopped, Reason: "exit code 137"})
		took := c.within(time.Second, "healed", func(*fsm.State) bool { r := row(t, c, 1); return r.Generation == 2 && r.Status })
		if took > 150*time.Millisecond {
			t.Errorf("took %s, of which the start is 50ms", took)
		}
	})
}

func TestFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.owners("a")()
		_, stop := c.lead("a")
		defer stop()
		s := spec(1)
		s.Health.Failures = 3
		c.must(fsm.PutService{Spec: s})
		c.within(time.Second, "healthy", healthyRows(1))
		c.net.container("a:8000").behave(true, false)
		c.always(1900*time.Millisecond, "two failures are not three", healthyRows(1))
		c.within(1200*time.Millisecond, "three are", healthyRows(0))
	})
}

func TestSecondOpinion(t *testing.T) {
	three(t, 3, func(c *cluster, _ *Control) {
		r := row(t, c, 2)
		if r.Node != "b" {
			t.Fatalf("acts/2 is on %s", r.Node)
		}
		c.cut(r, false)
		gens := c.generations()
		c.always(20*time.Second, "a bad link of the leader changes nothing", func(v *fsm.State) bool {
			return c.sameGenerations(gens)(v) && healthyRows(3)(v)
		})
		c.set(func() { c.silent["b"] = true })
		c.within(2*time.Second, "nobody reaches it: out of rotation", healthyRows(2))
		c.always(10*time.Second, "but not relaunched", c.sameGenerations(gens))
		c.set(func() { c.silent["b"] = false })
		c.net.container(address(r)).behave(true, false)
		c.within(2*time.Second, "its node agrees: relaunched", func(*fsm.State) bool { return row(t, c, 2).Generation == 2 })
	})
}

// A leader that finds most rows failing doubts itself.
func TestMassFailure(t *testing.T) {
	for name, silently := range map[string]bool{"no connection": false, "no answer": true} {
		t.Run(name, func(t *testing.T) {
			three(t, 6, func(c *cluster, _ *Control) {
				gens := c.generations()
				for _, r := range c.View().Rows("acts") {
					if r.Node != "a" {
						c.cut(r, silently)
					}
				}
				c.always(20*time.Second, "owners disagree: nothing changes", func(v *fsm.State) bool {
					return c.sameGenerations(gens)(v) && healthyRows(6)(v)
				})
				c.set(func() { c.silent["b"], c.silent["c"] = true, true })
				c.always(20*time.Second, "owners silent: nothing changes", func(v *fsm.State) bool {
					return c.sameGenerations(gens)(v) && healthyRows(6)(v)
				})
			})
		})
	}
}

// Silence of a few, after a connection, is the containers' own.
func TestSilenceOfAFew(t *testing.T) {
	three(t, 6, func(c *cluster, _ *Control) {
		for _, r := range c.View().RowsOn("b") {
			c.cut(r, true)
		}
		c.within(3*time.Second, "relaunched", func(v *fsm.State) bool {
			rows := v.RowsOn("b")
			return rows[0].Generation == 2 && rows[1].Generation == 2
		})
	})
}

func TestProbesEachInterval(t *testing.T) {
	three(t, 4, func(c *cluster, _ *Control) {
		before := c.net.probed("b:8001")
		<-time.After(time.Minute) // of the bubble
		if n := c.net.probed("b:8001") - before; n < 59 || n > 61 {
			t.Errorf("%d probes in a minute", n)
		}
		c.set(func() { c.inFlight["a"] = map[rowKey]int{{"acts", 4, 1}: 1} })
		c.must(fsm.ScaleByHand{Service: "acts", Count: 3})
		c.within(time.Second, "draining", healthyRows(3))
		before = c.net.probed("a:8003")
		<-time.After(10 * time.Second) // of the bubble
		if n := c.net.probed("a:8003") - before; n != 0 {
			t.Errorf("a draining row was probed %d times", n)
		}
	})
}

func TestMassFailureThatIsTrue(t *testing.T) {
	three(t, 6, func(c *cluster, _ *Control) {
		for _, r := range c.View().Rows("acts") {
			c.net.container(address(r)).behave(false, true)
		}
		c.within(5*time.Second, "all relaunched once their owners agree", func(v *fsm.State) bool {
			for _, r := range v.Rows("acts") {
				if r.Generation != 2 || !r.Status {
					return false
				}
			}
			return true
		})
	})
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		bad := false
		stopOwner := c.own(&owner{c: c, node: "a", fails: func(r fsm.Container) (string, bool) {
			if r.Number == 2 && bad {
				return "exit code 1", false
			}
			return "", false
		}})
		defer stopOwner()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(3)})
		c.within(time.Second, "healthy", healthyRows(3))
		bad = true
		c.net.stop("a:8001")
		c.must(fsm.Observe{Node: "a", Service: "acts", Number: 2, Generation: 1, Phase: fsm.Stopped, Reason: "exit code 1"})
		last := time.Now()
		for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60} {
			want *= time.Second
			generation := uint64(i + 2)
			c.within(2*time.Minute, "next generation", func(*fsm.State) bool { return row(t, c, 2).Generation >= generation })
			took := time.Since(last)
			last = time.Now()
			if took < want || took > want+100*time.Millisecond {
				t.Errorf("generation %d came after %s, want %s", generation, took, want)
			}
			if r := row(t, c, 2); !strings.HasPrefix(r.Reason, "exit code 1") || strings.Count(r.Reason, "relaunches") > 1 {
				t.Errorf("reason is %q", r.Reason)
			}
		}
		for n, g := range c.generations() {
			if n != 2 && g != 1 {
				t.Errorf("acts/%d was relaunched too", n)
			}
		}
		c.within(time.Second, "waits again", func(*fsm.State) bool { return row(t, c, 2).RetryAt > stamp() })
		p := Upcoming(c.View(), stamp(), nil)
		if len(p) != 1 || p[0].What != "relaunch acts/2" || p[0].DueMS > 60_000 || p[0].DueMS < 50_000 {
			t.Errorf("pending: %+v", p)
		}
		bad = false
		c.within(2*time.Minute, "healed", healthyRows(3))
		if r := row(t, c, 2); r.Failures == 0 {
			t.Error("failures forgotten before it was stable")
		}
		c.net.container("a:8001").behave(true, false)
		c.within(1100*time.Millisecond, "healthy for a moment only", healthyRows(2))
		c.always(44*time.Second, "it waits again", func(*fsm.State) bool { return row(t, c, 2).Generation == 11 })
		c.within(20*time.Second, "healed", healthyRows(3))
		c.always(15*time.Second, "stable", healthyRows(3))
		c.net.container("a:8001").behave(true, false)
		c.within(1500*time.Millisecond, "after a stable time it is relaunched without delay", func(*fsm.State) bool {
			r := row(t, c, 2)
			return r.Failures == 1 && r.Status
		})
	})
}

// TestStartTimeout begins with the container: how long its engine needs until then is not
// held against it.
func TestStartTimeout(t *testing.T) {
	for _, engine := range []time.Duration{50 * time.Millisecond, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, "a")
			defer c.own(&owner{c: c, node: "a", takes: engine})()
			_, stop := c.lead("a")
			defer stop()
			s := spec(1)
			s.Health.Path = "/wrong"
			s.Health.StartTimeout = fsm.Duration(5 * time.Second)
			c.must(fsm.PutService{Spec: s})
			took := c.within(40*time.Second, "relaunched", func(v *fsm.State) bool { r, _ := v.Container("acts", 1); return r.Generation == 2 })
			if took < engine+5*time.Second || took > engine+6100*time.Millisecond {
				t.Errorf("after %s", took)
			}
			if !strings.Contains(c.dump(), "no good answer within 5s of its start: 500") {
				t.Error(c.dump())
			}
		})
	}
}

func TestPortTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.own(&owner{c: c, node: "a", fails: func(r fsm.Container) (string, bool) {
			if r.Port < 8003 {
				return "port is already allocated", true
			}
			return "", false
		}})()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(1)})
		took := c.within(time.Second, "on a free port", healthyRows(1))
		r := row(t, c, 1)
		if r.Port != 8003 || took > 300*time.Millisecond || r.Failures != 0 {
			t.Errorf("after %s: %+v", took, r)
		}
		if !strings.Contains(c.dump(), "port 8002 is taken on a") {
			t.Error(c.dump())
		}
	})
}
