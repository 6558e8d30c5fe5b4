package control

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"orch/fsm"
)

// serve reports n requests of node a.
func (c *cluster) serve(seq *uint64, n uint64) {
	*seq++
	c.must(fsm.TakeTurns{Service: "acts", Node: "a", Epoch: 1, Seq: *seq, Count: 1, Served: n})
}

// The original's example: a burst of 20 gives 2 containers within seconds, still 2
// after 141 s, and 1 before 5 minutes are over.
func TestScaleByTheOriginalsRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a")
		defer c.owners("a")()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(1)})
		c.within(time.Second, "one", healthyRows(1))
		var seq uint64
		c.serve(&seq, 19)
		c.always(5*time.Minute, "19 requests are one container's", healthyRows(1))
		began := time.Now()
		c.serve(&seq, 20)
		c.within(2*time.Second, "two", healthyRows(2))
		c.always(141*time.Second, "still two", healthyRows(2))
		p := Upcoming(c.View(), stamp(), nil)
		if len(p) != 1 || p[0].What != "scale acts from 2 to 1" {
			t.Errorf("pending: %+v", p)
		}
		due := time.Duration(p[0].DueMS) * time.Millisecond
		took := c.within(5*time.Minute, "one", healthyRows(1))
		if d := due - took; d > 2*time.Second || d < -2*time.Second {
			t.Errorf("told to shrink in %s, did in %s", due, took)
		}
		if all := time.Since(began); all > 4*time.Minute+5*time.Second || all < 4*time.Minute-5*time.Second {
			t.Errorf("shrunk after %s", all)
		}
		if r := c.View().Rows("acts"); len(r) == 2 && r[1].Desired == fsm.Running {
			t.Error("the row with the highest port stays")
		}
	})
}

func TestScaleStraightToTheNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b")
		defer c.owners("a", "b")()
		_, stop := c.lead("a")
		defer stop()
		c.must(fsm.PutService{Spec: spec(1)})
		c.within(time.Second, "one", healthyRows(1))
		var seq uint64
		c.serve(&seq, 1_000_000)
		c.within(2*time.Second, "the maximum", healthyRows(10))
		c.must(fsm.ScaleByHand{Service: "acts", Count: 4})
		c.within(time.Second, "by hand at once, highest ports first", func(v *fsm.State) bool {
			rows := v.Rows("acts")
			return len(rows) == 4 && rows[3].Port == 8003
		})
		c.must(fsm.ScaleByHand{Service: "acts"})
		c.within(time.Second, "auto again", healthyRows(10))
		if r := row(t, c, 10); r.Port != 8009 {
			t.Errorf("last row %+v", r)
		}
		c.must(fsm.RemoveService{Name: "acts"})
		c.within(2*time.Second, "removed", func(v *fsm.State) bool { return len(v.Services) == 0 && len(v.Containers) == 0 })
	})
}

// decisions runs a fixed load for five minutes, with changes of leader at the given
// times, and returns what was decided.
func decisions(t *testing.T, gap time.Duration, changes ...time.Duration) (out []string) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "a", "b", "c")
		defer c.owners("a", "b", "c")()
		_, stop := c.lead("a")
		c.must(fsm.PutService{Spec: spec(1)})
		c.within(time.Second, "one", healthyRows(1))
		began, names := time.Now(), []string{"b", "c", "a"}
		var seq uint64
		for i := 0; time.Since(began) < 7*time.Minute; i++ {
			if len(changes) > 0 && time.Since(began) >= changes[0] {
				stop()
				<-time.After(gap) // of the bubble
				_, stop = c.lead(names[i%3])
				changes = changes[1:]
			}
			if i < 1200 && i%3 == 0 {
				c.serve(&seq, uint64(1+(i/100)%7))
			}
			<-time.After(time.Duration(i+1)*99*time.Millisecond - time.Since(began)) // of the bubble
		}
		stop()
		for _, cmd := range c.commands() {
			if d, ok := cmd.(fsm.Decide); ok {
				out = append(out, fmt.Sprintf("%d of %d at %d", d.Decision.Desired, d.Decision.Requests, d.Decision.At/1000))
			}
		}
	})
	return out
}

func TestScaleSequenceSurvivesChangeOfLeader(t *testing.T) {
	want := decisions(t, 0)
	if len(want) < 10 {
		t.Fatalf("the load asks for too little: %v", want)
	}
	for _, got := range [][]string{
		decisions(t, 0, 10*time.Second),
		decisions(t, 50*time.Millisecond, 3*time.Second, 20*time.Second, 61300*time.Millisecond, 200*time.Second, 300*time.Second),
	} {
		if !slices.Equal(got, want) {
			t.Errorf("with a change of leader\n%v\nwithout\n%v", got, want)
		}
	}
}

func TestDecide(t *testing.T) {
	sp := spec(1)
	sp.Scale.Window, sp.Scale.Cooldown = fsm.Duration(10*time.Second), fsm.Duration(5*time.Second)
	at := func(b ...fsm.Bucket) fsm.Service { return fsm.Service{Name: "acts", Spec: sp, Buckets: b} }
	manual := at(fsm.Bucket{Second: 99, Count: 500})
	manual.Manual = 3
	gone := at(fsm.Bucket{Second: 99, Count: 500})
	gone.Removing = true
	for name, tc := range map[string]struct {
		sv       fsm.Service
		desired  int
		requests uint64
	}{
		"none":                          {at(), 1, 0},
		"nineteen":                      {at(fsm.Bucket{Second: 99, Count: 19}), 1, 19},
		"twenty":                        {at(fsm.Bucket{Second: 99, Count: 20}), 2, 20},
		"this second is not over":       {at(fsm.Bucket{Second: 100, Count: 500}), 1, 0},
		"first second of the window":    {at(fsm.Bucket{Second: 90, Count: 20}), 2, 20},
		"out of the window, cooling":    {at(fsm.Bucket{Second: 89, Count: 20}), 2, 0},
		"last second of the cooldown":   {at(fsm.Bucket{Second: 86, Count: 20}), 2, 0},
		"cooled down":                   {at(fsm.Bucket{Second: 85, Count: 20}), 1, 0},
		"two halves, never in a window": {at(fsm.Bucket{Second: 86, Count: 19}, fsm.Bucket{Second: 97, Count: 19}), 1, 19},
		"two halves, once in a window":  {at(fsm.Bucket{Second: 87, Count: 19}, fsm.Bucket{Second: 96, Count: 1}), 2, 1},
		"maximum":                       {at(fsm.Bucket{Second: 99, Count: 1 << 60}), 10, 1 << 60},
		"by hand":                       {manual, 3, 500},
		"removing":                      {gone, 0, 0},
	} {
		d := decide(tc.sv, 100_500)
		if d.Desired != tc.desired || d.Requests != tc.requests || d.Reason == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}
