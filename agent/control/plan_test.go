package control

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orch/fsm"
)

// world is a random state of the table, made by commands alone.
type world struct {
	t     *rapid.T
	s     *fsm.State
	now   int64
	index uint64
}

// apply one command; the answer is its refusal.
func (w *world) apply(c fsm.Command) error {
	w.index++
	next, _, err := fsm.Apply(w.s, w.index, 1, w.now, c)
	w.s = next
	if broken := fsm.Check(next); broken != nil {
		w.t.Fatalf("%T %+v: %v", c, c, broken)
	}
	return err
}

func newWorld(t *rapid.T) *world {
	w := &world{t: t, s: &fsm.State{}, now: 1e12}
	for _, id := range []string{"a", "b", "c"} {
		_ = w.apply(fsm.PutNode{Node: fsm.Node{ID: id, Addr: id, APIAddr: "api-" + id, RaftAddr: "raft-" + id}})
	}
	for i := range rapid.IntRange(1, 2).Draw(t, "services") {
		s := fsm.Spec{Name: fmt.Sprint("s", i), Image: "x", PortBase: 8000 + 990*i}.WithDefaults()
		s.Health.Failures = rapid.IntRange(1, 2).Draw(t, "failures")
		_ = w.apply(fsm.PutService{Spec: s})
		_ = w.apply(fsm.ScaleByHand{Service: s.Name, Count: rapid.IntRange(0, 10).Draw(t, "by hand")})
	}
	for range rapid.IntRange(0, 80).Draw(t, "history") {
		w.now += rapid.Int64Range(0, 20_000).Draw(t, "ms")
		w.step()
	}
	return w
}

// step is one thing that happens: an operator's, an owner's or a leader's.
func (w *world) step() {
	t := w.t
	service := fmt.Sprint("s", rapid.IntRange(0, 1).Draw(t, "service"))
	switch rapid.IntRange(0, 9).Draw(t, "what") {
	case 0:
		n, _ := w.s.Node(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "node"))
		states := []fsm.NodeStatus{fsm.NodeAlive, fsm.NodeAlive, fsm.NodeSuspect, fsm.NodeDead, fsm.NodeDraining}
		_ = w.apply(fsm.SetNodeStatus{ID: n.ID, Seen: w.index, Status: rapid.SampledFrom(states).Draw(t, "status")})
	case 1:
		_ = w.apply(fsm.ScaleByHand{Service: service, Count: rapid.IntRange(0, 10).Draw(t, "count")})
	case 2:
		_ = w.apply(fsm.TakeTurns{Service: service, Node: "a", Epoch: 1, Seq: w.index, Count: 1, Served: rapid.Uint64Range(0, 100).Draw(t, "served")})
	case 3:
		if rapid.IntRange(0, 19).Draw(t, "rarely") == 0 {
			_ = w.apply(fsm.RemoveService{Name: service})
		}
	case 4, 5:
		w.observe()
	case 6:
		w.release(service)
	default:
		plan := append(append(planScale(w.s, w.now), planRollout(w.s, w.now)...), planRows(w.s, w.now)...)
		for _, a := range append(plan, planHealth(w.s, w.observations(), w.now, 0)...) {
			_ = w.apply(a.Command) // of three plans of one view, some are out of date
		}
	}
}

// release puts another version, goes back to one, or drains a node.
func (w *world) release(service string) {
	sv, ok := w.s.Service(service)
	if !ok {
		return
	}
	switch rapid.IntRange(0, 3).Draw(w.t, "release") {
	case 0:
		spec := sv.Spec
		spec.Image = rapid.SampledFrom([]string{"x", "y", "z"}).Draw(w.t, "image")
		spec.Rollout.Parallel = rapid.IntRange(1, 3).Draw(w.t, "parallel")
		_ = w.apply(fsm.PutService{Spec: spec})
	case 1:
		_ = w.apply(fsm.PutService{Spec: sv.Spec, Restart: fmt.Sprint(w.index)})
	case 2:
		_ = w.apply(fsm.RollBack{Service: service, Left: sv.Newest().Number, To: sv.Newest().Number - 1})
	case 3:
		_ = w.apply(fsm.DrainNode{ID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "drained"), Deadline: rapid.SampledFrom([]int64{0, w.now, w.now + 60_000}).Draw(w.t, "deadline")})
	}
}

func (w *world) observe() {
	for _, r := range w.s.Containers {
		phase := rapid.SampledFrom([]fsm.Phase{"", fsm.Starting, fsm.Running, fsm.Running, fsm.Stopped}).Draw(w.t, "phase")
		if phase == "" {
			continue
		}
		taken := phase == fsm.Stopped && rapid.IntRange(0, 3).Draw(w.t, "taken") == 0
		_ = w.apply(fsm.Observe{Node: r.Node, Service: r.Service, Number: r.Number, Generation: r.Generation, Phase: phase, PortTaken: taken, Reason: "seen"})
	}
}

func (w *world) observations() map[rowKey]observation {
	seen := map[rowKey]observation{}
	for _, r := range w.s.Containers {
		if r.Observed != fsm.Running {
			continue
		}
		b := rapid.IntRange(0, 1<<10-1).Draw(w.t, "observation")
		o := observation{Probed: b&7 != 0, Healthy: b&8 != 0, Was: r.Status || b&16 != 0, Doubt: b&32 != 0, Mass: b&32 != 0 && b&64 != 0, Held: b&896 == 0}
		if o.Doubt {
			o.Owner = opinion(rapid.IntRange(0, 3).Draw(w.t, "owner"))
		}
		if !o.Healthy && o.Probed {
			o.Failures, o.Reason = rapid.IntRange(1, 3).Draw(w.t, "in a row"), "500"
		}
		seen[keyOf(r)] = o
	}
	return seen
}

func (w *world) reports() map[string]Report {
	out := map[string]Report{}
	for _, n := range w.s.Nodes {
		if rapid.Bool().Draw(w.t, "answers") {
			out[n.ID] = Report{Serving: w.index - rapid.Uint64Range(0, min(3, w.index)).Draw(w.t, "lag")}
		}
	}
	return out
}

func (w *world) sightings() map[string]sighting {
	out := map[string]sighting{}
	for _, n := range w.s.Nodes {
		out[n.ID] = sighting{
			Gossip:  rapid.SampledFrom([]string{"alive", "suspect", "dead", "left", "absent"}).Draw(w.t, "gossip"),
			For:     time.Duration(rapid.IntRange(0, 5).Draw(w.t, "for")) * time.Second,
			Answers: rapid.Bool().Draw(w.t, "answers"),
		}
	}
	return out
}

// A plan is bounded, gives a reason for each action, is never refused by the view
// it was made from, and once it is done there is nothing left to do. A row that
// fails while it is healthy takes two passes when it has to wait: out of rotation,
// then the back-off; so does a roll-out that goes back before any row has begun anew: back,
// then good again.
func TestPlansAreDoneWhenDone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		seen, reports, sightings := w.observations(), w.reports(), w.sightings()
		for _, p := range []struct {
			name   string
			passes int
			make   func() []Action
		}{
			{"health", 2, func() []Action { return planHealth(w.s, seen, w.now, 0) }},
			{"scale", 1, func() []Action { return planScale(w.s, w.now) }},
			{"roll-out", 2, func() []Action { return planRollout(w.s, w.now) }},
			{"rows", 1, func() []Action { return planRows(w.s, w.now) }},
			{"drain", 1, func() []Action { return planDrain(w.s, reports, w.now) }},
			{"nodes", 1, func() []Action { return planNodes(w.s, "a", sightings) }},
		} {
			for pass := 0; ; pass++ {
				plan := p.make()
				if len(plan) > maxActions {
					t.Fatalf("%s: %d actions", p.name, len(plan))
				}
				if len(plan) == 0 {
					break
				}
				if pass == p.passes {
					t.Fatalf("%s: after %d passes there is still %T %+v", p.name, pass, plan[0].Command, plan[0])
				}
				for _, a := range plan {
					if a.Reason == "" && p.name != "health" {
						t.Fatalf("%s: no reason for %+v", p.name, a.Command)
					}
					if err := w.apply(a.Command); err != nil {
						t.Fatalf("%s: %T %+v refused: %v", p.name, a.Command, a.Command, err)
					}
				}
			}
		}
	})
}

// Without new faults the plans lead every service to its number of rows that are
// to be running, whatever the table looks like.
func TestPlansLeadThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for _, n := range w.s.Nodes {
			_ = w.apply(fsm.SetNodeStatus{ID: n.ID, Seen: w.index, Status: fsm.NodeAlive})
			_ = w.apply(fsm.DrainNode{ID: n.ID})
		}
		settled := func() bool {
			for _, sv := range w.s.Services {
				rows := w.s.Rows(sv.Name)
				for _, r := range rows {
					if r.Build != sv.Newest().Build {
						return false
					}
				}
				if sv.Newest().Outcome != fsm.Good || len(rows) != sv.Decision.Desired || healthy(rows) != len(rows) || sv.Decision.Desired == 0 {
					return false
				}
			}
			return true
		}
		for i := 0; i < 400 && (i < 3 || !settled()); i++ {
			w.now += 1000
			seen := map[rowKey]observation{}
			for _, r := range w.s.Containers {
				phase := fsm.Running
				if r.Desired == fsm.Stopped {
					phase = fsm.Stopped
				}
				_ = w.apply(fsm.Observe{Node: r.Node, Service: r.Service, Number: r.Number, Generation: r.Generation, Phase: phase})
				seen[keyOf(r)] = observation{Probed: true, Healthy: true, Was: true}
			}
			all := map[string]Report{"a": {Serving: w.index}, "b": {Serving: w.index}, "c": {Serving: w.index}}
			for _, plan := range []func() []Action{
				func() []Action { return planHealth(w.s, seen, w.now, 0) },
				func() []Action { return planScale(w.s, w.now) },
				func() []Action { return planRollout(w.s, w.now) },
				func() []Action { return planRows(w.s, w.now) },
				func() []Action { return planDrain(w.s, all, w.now) },
			} {
				for _, a := range plan() {
					if err := w.apply(a.Command); err != nil {
						t.Fatalf("%T %+v refused: %v", a.Command, a.Command, err)
					}
				}
			}
		}
		if !settled() {
			t.Fatalf("not there: %+v\n%+v", w.s.Services, w.s.Containers)
		}
	})
}

// Verdicts of planHealth on one row, by what is seen of it.
func TestPlanHealth(t *testing.T) {
	const now = int64(1_000_000)
	failing := observation{Probed: true, Was: true, Failures: 1, Reason: "500"}
	with := func(f func(*observation)) observation {
		o := failing
		f(&o)
		return o
	}
	row := func(f func(*fsm.Container)) fsm.Container {
		r := fsm.Container{Service: "acts", Number: 1, Generation: 4, Node: "a", Port: 8000, Status: true, Desired: fsm.Running, Observed: fsm.Running, Since: now - 60_000, Index: 9}
		f(&r)
		return r
	}
	same := func(*fsm.Container) {}
	for name, tc := range map[string]struct {
		row  fsm.Container
		node fsm.NodeStatus
		seen observation
		want string
	}{
		"fails":                         {row(same), fsm.NodeAlive, failing, "relaunch"},
		"held":                          {row(same), fsm.NodeAlive, with(func(o *observation) { o.Held = true }), ""},
		"healthy":                       {row(same), fsm.NodeAlive, observation{Probed: true, Healthy: true, Was: true}, ""},
		"healthy again":                 {row(func(r *fsm.Container) { r.Status = false }), fsm.NodeAlive, observation{Probed: true, Healthy: true, Was: true}, "setstatus"},
		"not asked yet":                 {row(same), fsm.NodeAlive, with(func(o *observation) { o.Doubt = true }), ""},
		"owner agrees":                  {row(same), fsm.NodeAlive, with(func(o *observation) { o.Doubt, o.Owner = true, agrees }), "relaunch"},
		"owner disagrees":               {row(same), fsm.NodeAlive, with(func(o *observation) { o.Doubt, o.Owner = true, disagrees }), ""},
		"owner silent":                  {row(same), fsm.NodeAlive, with(func(o *observation) { o.Doubt, o.Owner = true, silent }), "setstatus"},
		"owner silent, most fail":       {row(same), fsm.NodeAlive, with(func(o *observation) { o.Doubt, o.Mass, o.Owner = true, true, silent }), ""},
		"owner dead":                    {row(same), fsm.NodeDead, with(func(o *observation) { o.Doubt, o.Owner = true, silent }), "relaunch"},
		"owner dead, healthy":           {row(same), fsm.NodeDead, observation{Probed: true, Healthy: true, Was: true}, ""},
		"owner dead, not probed":        {row(same), fsm.NodeDead, observation{}, ""},
		"owner removed, healthy":        {row(same), fsm.NodeLeft, observation{Probed: true, Healthy: true, Was: true}, "relaunch"},
		"owner leaves":                  {row(same), fsm.NodeDraining, failing, "setstatus"},
		"keeps dying":                   {row(func(r *fsm.Container) { r.Status, r.Failures = false, 2 }), fsm.NodeAlive, failing, "backoff"},
		"keeps dying, in rotation":      {row(func(r *fsm.Container) { r.Failures, r.Since = 2, now-5000 }), fsm.NodeAlive, failing, "setstatus"},
		"kept dying, long ago":          {row(func(r *fsm.Container) { r.Failures = 2 }), fsm.NodeAlive, failing, "relaunch"},
		"waits":                         {row(func(r *fsm.Container) { r.Status, r.Failures, r.RetryAt = false, 2, now+1 }), fsm.NodeAlive, failing, ""},
		"has waited":                    {row(func(r *fsm.Container) { r.Status, r.Failures, r.RetryAt = false, 2, now }), fsm.NodeAlive, failing, "relaunch"},
		"has waited for another reason": {row(func(r *fsm.Container) { r.Status, r.Failures, r.RetryAt = false, 2, now-70_000 }), fsm.NodeAlive, failing, "backoff"},
		"starts":                        {row(func(r *fsm.Container) { r.Status, r.Since = false, now-14_000 }), fsm.NodeAlive, with(func(o *observation) { o.Was = false }), ""},
		"does not start":                {row(func(r *fsm.Container) { r.Status, r.Since = false, now-15_000 }), fsm.NodeAlive, with(func(o *observation) { o.Was = false }), "relaunch"},
		"not begun with":                {row(func(r *fsm.Container) { r.Status, r.Observed, r.Since = false, fsm.Pending, now-74_000 }), fsm.NodeAlive, observation{}, ""},
		"not begun with for long":       {row(func(r *fsm.Container) { r.Status, r.Observed, r.Since = false, fsm.Pending, now-75_000 }), fsm.NodeAlive, observation{}, "relaunch"},
		"drains":                        {row(func(r *fsm.Container) { r.Desired = fsm.Draining }), fsm.NodeAlive, failing, ""},
	} {
		v := &fsm.State{
			Services:   []fsm.Service{{Name: "acts", Spec: spec(1)}},
			Nodes:      []fsm.Node{{ID: "a", Status: tc.node}, {ID: "b", Status: fsm.NodeAlive}},
			Containers: []fsm.Container{tc.row},
		}
		got := ""
		for _, a := range planHealth(v, map[rowKey]observation{{"acts", 1, 4}: tc.seen}, now, 0) {
			got += commandName(a.Command)
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestDelay(t *testing.T) {
	for failures, want := range map[int]time.Duration{-1: 0, 0: 0, 1: time.Second, 2: 2 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1000: time.Minute} {
		if got := delay(failures, 0); got != want {
			t.Errorf("%d failures: %s, want %s", failures, got, want)
		}
		if got := delay(failures, 1); got != want*3/4 {
			t.Errorf("%d failures, full jitter: %s", failures, got)
		}
	}
}
