package control

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"orch/fsm"
)

// release is the spec of the service under test with another image.
func release(image string, change ...func(*fsm.Spec)) fsm.Spec {
	s := spec(1)
	s.Image = image
	for _, f := range change {
		f(&s)
	}
	return s
}

// rolling runs three nodes with n healthy rows. Containers of broken answer 500; those
// for which fails has a reason do not start.
func rolling(t *testing.T, n int, fails func(fsm.Container) (string, bool), test func(c *cluster, stop func()), broken ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		var owners []*owner
		for _, id := range []string{"a", "b", "c"} {
			owners = append(owners, &owner{c: c, node: id, takes: 50 * time.Millisecond, broken: broken, fails: fails})
		}
		defer c.own(owners...)()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(1)})
		c.must(fsm.ScaleByHand{Service: "acts", Count: n})
		c.within(2*time.Second, "all containers healthy", healthyRows(n))
		c.within(time.Second, "revision 1 is good", outcome(1, fsm.Good))
		test(c, stop)
	})
}

func outcome(revision uint64, want fsm.Outcome) func(*fsm.State) bool {
	return func(v *fsm.State) bool {
		sv, _ := v.Service("acts")
		for _, r := range sv.Revisions {
			if r.Number == revision {
				return r.Outcome == want
			}
		}
		return false
	}
}

// keeps wraps ok: on the way there are always at least n in rotation, and at most most
// rows.
func keeps(t *testing.T, n, most int, ok func(*fsm.State) bool) func(*fsm.State) bool {
	return func(v *fsm.State) bool {
		if got := len(v.Rotation("acts")); got < n {
			t.Fatalf("%d in rotation, never fewer than %d are enough", got, n)
		}
		if got := len(v.Rows("acts")); got > most {
			t.Fatalf("%d rows, at most %d are needed", got, most)
		}
		return ok(v)
	}
}

// settled: rows 1 to n, in their ports, of that image and healthy, and no others.
func settled(n int, image string) func(*fsm.State) bool {
	return func(v *fsm.State) bool {
		for i, r := range v.Rows("acts") {
			if r.Number != i+1 || r.Port != 8000+i || r.Image != image || !r.Status || r.Desired != fsm.Running {
				return false
			}
		}
		return len(v.Rows("acts")) == n
	}
}

func TestRollOut(t *testing.T) {
	for parallel := 1; parallel <= 3; parallel++ {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			rolling(t, 5, nil, func(c *cluster, _ func()) {
				c.must(fsm.PutService{Spec: release("acts:2", func(s *fsm.Spec) { s.Rollout.Parallel = parallel }), Base: 1})
				c.within(10*time.Second, "all are of the new image", keeps(t, 5, 5+parallel, settled(5, "acts:2")))
				c.within(time.Second, "the revision is good", outcome(2, fsm.Good))
				for n, g := range c.generations() {
					if g != 2 {
						t.Errorf("acts/%d is at generation %d", n, g)
					}
				}
				c.always(time.Minute, "and stay", settled(5, "acts:2"))
			})
		})
	}
}

// TestRollOutOfWhatNoContainerIsMadeFrom replaces none.
func TestRollOutOfWhatNoContainerIsMadeFrom(t *testing.T) {
	rolling(t, 3, nil, func(c *cluster, _ func()) {
		c.must(fsm.PutService{Spec: release("acts:1", func(s *fsm.Spec) { s.Routes = []string{"/x"} })})
		c.within(time.Second, "good at once", outcome(2, fsm.Good))
		c.always(time.Minute, "as they were", func(v *fsm.State) bool {
			return settled(3, "acts:1")(v) && c.sameGenerations(map[int]uint64{1: 1, 2: 1, 3: 1})(v)
		})
	})
}

// TestRollOutOutlivesItsLeader at each of its steps.
func TestRollOutOutlivesItsLeader(t *testing.T) {
	for steps := 1; steps <= 12; steps++ {
		t.Run(fmt.Sprint(steps), func(t *testing.T) {
			rolling(t, 3, nil, func(c *cluster, stop func()) {
				before := len(c.commands())
				c.must(fsm.PutService{Spec: release("acts:2")})
				c.within(10*time.Second, "in the middle", keeps(t, 3, 4, func(*fsm.State) bool { return len(c.commands()) >= before+1+steps }))
				stop()
				_, stop = c.lead("b")
				defer stop()
				c.within(10*time.Second, "the other leader ends it", keeps(t, 3, 4, settled(3, "acts:2")))
				c.within(time.Second, "the revision is good", outcome(2, fsm.Good))
			})
		})
	}
}

// TestBadVersionGoesBack by itself, with the reason, and no container of the version
// before is touched.
func TestBadVersionGoesBack(t *testing.T) {
	noImage := func(row fsm.Container) (string, bool) {
		if row.Image == "absent" {
			return "image absent does not exist on " + row.Node, false
		}
		return "", false
	}
	for _, image := range []string{"broken", "absent"} {
		t.Run(image, func(t *testing.T) {
			rolling(t, 3, noImage, func(c *cluster, stop func()) {
				c.must(fsm.PutService{Spec: release(image)})
				c.within(2*time.Second, "the stand-in is there", func(v *fsm.State) bool { return len(v.Rows("acts")) == 4 })
				p := Upcoming(c.View(), stamp(), nil)
				if said := fmt.Sprint(p); !strings.Contains(said, "roll acts back from revision 2 to 1") || !strings.Contains(said, "unless acts/4 is healthy") {
					t.Errorf("pending: %s", said)
				}
				stop() // the deadline is the table's, not the leader's
				_, stop = c.lead("b")
				defer stop()
				took := c.within(40*time.Second, "given up", keeps(t, 3, 4, outcome(2, fsm.Failed)))
				if took < 25*time.Second {
					t.Errorf("given up after %s", took)
				}
				sv, _ := c.View().Service("acts")
				if left := sv.Revisions[1]; !strings.Contains(left.Reason, "acts/4 on ") || !strings.Contains(left.Reason, "was not healthy within 30s: ") {
					t.Errorf("reason %q", left.Reason)
				}
				if now := sv.Newest(); now.From != 1 || now.Build != 1 || now.By != "orchd" || sv.Spec.Image != "acts:1" {
					t.Errorf("back as %+v", now)
				}
				c.within(5*time.Second, "back", keeps(t, 3, 4, settled(3, "acts:1")))
				c.within(time.Second, "which is good", outcome(3, fsm.Good))
				c.always(time.Minute, "as they were", c.sameGenerations(map[int]uint64{1: 1, 2: 1, 3: 1}))
			}, "broken")
		})
	}
}

// TestBadVersionWithMoreOnTop goes back too: a change that concerns no container does
// not make it better.
func TestBadVersionWithMoreOnTop(t *testing.T) {
	rolling(t, 3, nil, func(c *cluster, _ func()) {
		c.must(fsm.PutService{Spec: release("broken")})
		c.within(2*time.Second, "the stand-in is there", func(v *fsm.State) bool { return len(v.Rows("acts")) == 4 })
		c.must(fsm.PutService{Spec: release("broken", func(s *fsm.Spec) { s.Scale.Max = 20 })})
		c.within(40*time.Second, "given up", keeps(t, 3, 4, outcome(3, fsm.Failed)))
		c.within(5*time.Second, "back", keeps(t, 3, 4, settled(3, "acts:1")))
	}, "broken")
}

// TestBadVersionByHand stays until somebody chooses another.
func TestBadVersionByHand(t *testing.T) {
	rolling(t, 3, nil, func(c *cluster, _ func()) {
		c.must(fsm.PutService{Spec: release("broken")})
		c.within(40*time.Second, "given up", outcome(3, fsm.Good))
		c.must(fsm.RollBack{Service: "acts", Left: 3, To: 2})
		c.within(40*time.Second, "failed again", keeps(t, 3, 5, outcome(4, fsm.Failed)))
		if p := fmt.Sprint(Upcoming(c.View(), stamp(), nil)); !strings.Contains(p, "it was chosen by hand") {
			t.Errorf("pending: %s", p)
		}
		c.always(time.Minute, "the old rows serve", keeps(t, 3, 5, outcome(4, fsm.Failed)))
		c.must(fsm.RollBack{Service: "acts", Left: 4, To: 1})
		c.within(10*time.Second, "back", keeps(t, 3, 5, settled(3, "acts:1")))
	}, "broken")
}

// TestVersionThatKeepsDyingGoesBack: it was healthy, for a moment each time.
func TestVersionThatKeepsDyingGoesBack(t *testing.T) {
	rolling(t, 3, nil, func(c *cluster, _ func()) {
		c.must(fsm.PutService{Spec: release("acts:2")})
		c.within(time.Minute, "given up", func(v *fsm.State) bool {
			for _, r := range v.Rows("acts") {
				if r.Image == "acts:2" && r.Status && time.Duration(stamp()-r.Since)*time.Millisecond > 20*time.Millisecond {
					_, _ = c.Propose(t.Context(), fsm.Observe{Node: r.Node, Service: "acts", Number: r.Number, Generation: r.Generation, Phase: fsm.Stopped, Reason: "exit code 3"})
				}
			}
			return outcome(2, fsm.Failed)(v)
		})
		c.within(time.Minute, "back", settled(3, "acts:1"))
	})
}

// TestFirstVersionIsBad: there is nothing to go back to, and the next one mends it,
// though nothing is healthy.
func TestFirstVersionIsBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.own(&owner{c: c, node: "a", takes: 50 * time.Millisecond, broken: []string{"broken"}})()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: release("broken", func(s *fsm.Spec) { s.Scale.Min = 2 })})
		c.within(time.Minute, "failed", outcome(1, fsm.Failed))
		c.must(fsm.PutService{Spec: release("acts:2", func(s *fsm.Spec) { s.Scale.Min = 2 })})
		took := c.within(10*time.Second, "mended", settled(2, "acts:2"))
		c.within(time.Second, "good", outcome(2, fsm.Good))
		t.Logf("mended after %s", took)
	})
}

// TestRollOutOnOneNode needs no other: the stand-in has a port of its own.
func TestRollOutOnOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.owners("a")()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(2)})
		c.within(time.Second, "healthy", healthyRows(2))
		c.must(fsm.PutService{Spec: release("acts:2", func(s *fsm.Spec) { s.Scale.Min = 2 })})
		c.within(10*time.Second, "rolled out", keeps(t, 2, 3, settled(2, "acts:2")))
	})
}

// TestOvertakenRollOut: a third version in the middle of the second.
func TestOvertakenRollOut(t *testing.T) {
	rolling(t, 5, nil, func(c *cluster, _ func()) {
		c.must(fsm.PutService{Spec: release("acts:2")})
		c.within(10*time.Second, "two are of it", keeps(t, 5, 6, func(v *fsm.State) bool {
			n := 0
			for _, r := range v.Rotation("acts") {
				if r.Image == "acts:2" {
					n++
				}
			}
			return n == 3
		}))
		c.must(fsm.PutService{Spec: release("acts:3")})
		c.within(10*time.Second, "all are of the third", keeps(t, 5, 7, settled(5, "acts:3")))
		if !outcome(2, fsm.Replaced)(c.View()) {
			t.Error("the second is not noted as replaced")
		}
	})
}

// TestScaleDuringRollOut, up and down.
func TestScaleDuringRollOut(t *testing.T) {
	for _, n := range []int{2, 8} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rolling(t, 5, nil, func(c *cluster, _ func()) {
				c.must(fsm.PutService{Spec: release("acts:2")})
				c.within(10*time.Second, "in the middle", keeps(t, 5, 6, func(v *fsm.State) bool { r, _ := v.Container("acts", 2); return r.Image == "acts:2" }))
				c.must(fsm.ScaleByHand{Service: "acts", Count: n})
				c.within(10*time.Second, "there", keeps(t, min(n, 5), max(n, 5)+1, settled(n, "acts:2")))
			})
		})
	}
}
