package control

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orch/fsm"
)

func TestReelection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.owners("a", "b", "c")()
		_, stop := c.lead("a")
		c.must(fsm.PutService{Spec: spec(3)})
		c.within(2*time.Second, "healthy", healthyRows(3))
		stop()
		r := row(t, c, 3)
		c.net.container(address(r)).behave(true, false)
		c.always(10*time.Second, "without a leader nothing changes", healthyRows(3))
		_, stop = c.lead("b")
		defer stop()
		c.within(50*time.Millisecond, "the new leader probes at once", healthyRows(2))
		c.within(time.Second, "and heals", healthyRows(3))
		polled := 0
		for _, e := range c.View().Events {
			if e.Kind == "polled" {
				polled++
			}
		}
		if polled != 2 {
			t.Errorf("%d first rounds noted, of 2 terms", polled)
		}
	})
}

// true while true is a new term: the old one has ended before it begins.
func TestFlapTrueTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		var running, most atomic.Int32
		ctl := c.control("a")
		ctl.prop = countTerms{c, &running, &most}
		leadership := make(chan bool)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- ctl.Run(ctx, leadership) }()
		for _, word := range []bool{true, true, true, false, false, true, true} {
			leadership <- word
			<-time.After(100 * time.Millisecond) // of the bubble
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if c.barriers != 5 {
			t.Errorf("%d terms, want 5", c.barriers)
		}
		if most.Load() != 1 || running.Load() != 0 {
			t.Errorf("%d terms at once, %d left", most.Load(), running.Load())
		}
		if got := c.memberChanges(); len(got) != 0 {
			t.Errorf("members changed: %v", got)
		}
	})
}

// countTerms takes the first second of a term for its barrier.
type countTerms struct {
	*cluster
	running, most *atomic.Int32
}

func (c countTerms) Barrier(ctx context.Context) error {
	_ = c.cluster.Barrier(ctx)
	c.most.Store(max(c.most.Load(), c.running.Add(1)))
	defer c.running.Add(-1)
	<-ctx.Done()
	return ctx.Err()
}

// The cluster's ID is the first command of every log.
func TestNothingBeforeTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.store, c.index = fsm.NewStore(), 0
		_, stop := c.lead("a")
		defer stop()
		<-time.After(time.Minute) // of the bubble
		if at := c.View().Applied; at != 0 {
			t.Errorf("%d commands before the cluster is made", at)
		}
		c.must(fsm.InitCluster{ClusterID: "test"})
		c.within(time.Second, "first round noted", func(v *fsm.State) bool { return len(v.Events) == 2 })
	})
}

func TestClosedLeadershipEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		leadership := make(chan bool, 1)
		leadership <- true
		close(leadership)
		if err := c.control("a").Run(t.Context(), leadership); err != nil {
			t.Error(err)
		}
	})
}

func TestLoopErrorMovesLeadership(t *testing.T) {
	for name, fault := range map[string]func(c *cluster, ctl *Control){
		"commit": func(c *cluster, _ *Control) {
			c.set(func() { c.commits = func(fsm.Command) error { return errors.New("disk is full") } })
		},
		"panic": func(c *cluster, ctl *Control) {
			c.must(fsm.PutService{Spec: spec(1)})
			ctl.cfg.Jitter = func() float64 { panic("no chance") }
		},
		"barrier": func(c *cluster, ctl *Control) { ctl.prop = noBarrier{c} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, "a", "b")
				ctl := c.control("a")
				fault(c, ctl)
				stop := run(t, ctl, true)
				defer stop()
				c.within(commitLimit+2*time.Second, "leadership moved", func(*fsm.State) bool {
					got := c.memberChanges()
					return len(got) > 0 && strings.HasPrefix(got[0], "transfer")
				})
			})
		})
	}
}

type noBarrier struct{ *cluster }

func (noBarrier) Barrier(context.Context) error { return errors.New("not the leader") }

// A short hiccup is no reason to move leadership, and a refusal is none at all.
func TestHiccupKeepsLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.owners("a")()
		hiccup := errors.New("outcome unknown")
		c.commits = func(fsm.Command) error { return hiccup }
		_, stop := c.lead("a")
		defer stop()
		<-time.After(commitLimit - 1500*time.Millisecond) // of the bubble
		c.set(func() { c.commits = nil })
		c.must(fsm.PutService{Spec: spec(1)})
		c.within(3*time.Second, "healthy", healthyRows(1))
		c.set(func() { c.commits = func(fsm.Command) error { return fsm.ErrStale } })
		<-time.After(time.Minute) // of the bubble
		if got := c.memberChanges(); len(got) != 0 {
			t.Errorf("members changed: %v", got)
		}
	})
}

// Two that think they lead see one failure: the table lets only one act on it.
func TestStaleLeaderCannotRelaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.owners("a", "b", "c")()
		_, stopA := c.lead("a")
		defer stopA()
		_, stopB := c.lead("b")
		defer stopB()
		c.must(fsm.PutService{Spec: spec(3)})
		c.within(2*time.Second, "healthy", healthyRows(3))
		old := c.View()
		stale := planHealth(old, map[rowKey]observation{{"acts", 1, 1}: {Probed: true, Was: true, Failures: 1, Reason: "500"}}, stamp(), 0)
		if len(stale) != 1 {
			t.Fatalf("plan: %+v", stale)
		}
		for range 5 {
			<-time.After(fsm.StableAfter * time.Millisecond) // of the bubble
			c.net.container("a:8000").behave(true, false)
			c.within(1100*time.Millisecond, "out", healthyRows(2))
			c.within(time.Second, "healed", healthyRows(3))
		}
		if g := row(t, c, 1).Generation; g != 6 {
			t.Errorf("5 failures led to generation %d", g)
		}
		if _, err := c.Propose(t.Context(), stale[0].Command); !errors.Is(err, fsm.ErrStale) {
			t.Errorf("a plan of long ago: %v", err)
		}
	})
}

// What a former leader thought of a container is no reason to relaunch it.
func TestFreshLeaderIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.owners("a", "b", "c")()
		_, stop := c.lead("a")
		c.must(fsm.PutService{Spec: spec(3)})
		c.within(2*time.Second, "healthy", healthyRows(3))
		stop()
		for n := 1; n <= 2; n++ { // a word that is long out of date
			c.must(fsm.SetStatus{Row: row(t, c, n).Row(), Status: false, Reason: "500"})
		}
		c.must(fsm.BackOff{Row: row(t, c, 1).Row(), RetryAt: stamp() + 1, Failures: 3, Reason: "500"})
		<-time.After(time.Hour) // of the bubble: every time-out is over
		if plan := planHealth(c.View(), nil, stamp(), 0); len(plan) != 0 {
			t.Errorf("without a probe of its own it plans %+v", plan)
		}
		_, stop = c.lead("b")
		defer stop()
		c.within(time.Second, "all healthy by the new leader's probes", healthyRows(3))
		c.always(time.Minute, "nothing relaunched", c.sameGenerations(map[int]uint64{1: 1, 2: 1, 3: 1}))
	})
}
