package fsm

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// revised is table with a second revision, of another image.
func revised(t testing.TB) *State {
	s := must(t, table(t), EndRollout{Service: "acts", Revision: 1, Outcome: Good})
	return must(t, s, PutService{Spec: Spec{Name: "acts", Image: "acts:2"}.WithDefaults(), Base: 1, By: "ann", Why: "release 2"})
}

func service(t testing.TB, s *State) Service {
	t.Helper()
	sv, ok := s.Service("acts")
	if !ok {
		t.Fatal("no service")
	}
	return sv
}

// TestRenew: a row keeps its number and its port over the end of one container and
// the start of the next, which is of the newest build.
func TestRenew(t *testing.T) {
	s := revised(t)
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true})
	was := row(t, s, 1)
	if _, _, err := Apply(s, s.Applied+1, 1, s.Stamp, Renew{Row: was.Row(), Node: "n2", Build: 1}); !errors.Is(err, ErrStale) {
		t.Errorf("renewed with the build before: %v", err)
	}
	s = must(t, s, Renew{Row: was.Row(), Node: "n2", Build: 2, Deadline: 77, Reason: "revision 2"})
	if r := row(t, s, 1); s.InRotation(r) || r.Phase() != Draining || r.DrainDeadline != 77 || r.Generation != 1 || r.Image != "acts:1" {
		t.Errorf("while it drains: %+v", r)
	}
	s = must(t, s, Stop{Row: row(t, s, 1).Row(), Reason: "released"})
	s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Stopped, Reason: "stopped as ordered"})
	want := Container{
		Service: "acts", Number: 1, Generation: 2, Node: "n2", Port: 8000, Desired: Running, Observed: Pending,
		Build: 2, Began: s.Stamp, Image: "acts:2", Reason: "moved from node n1", Since: s.Stamp, Created: was.Created, Index: s.Applied,
	}
	if r := row(t, s, 1); r != want {
		t.Errorf("begun anew\n%+v, want\n%+v", r, want)
	}
	s = must(t, s, Observe{Node: "n2", Service: "acts", Number: 1, Generation: 2, Phase: Running})
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true})
	if r := row(t, s, 1); !r.Proven || !s.InRotation(r) {
		t.Errorf("healthy: %+v", r)
	}
}

// TestRenewMeets what may happen on its way.
func TestRenewMeets(t *testing.T) {
	draining := func(t *testing.T) *State {
		s := revised(t)
		return must(t, s, Renew{Row: row(t, s, 1).Row(), Node: "n2", Build: 2, Deadline: 77})
	}
	setNode := func(t *testing.T, s *State, id string, status NodeStatus) *State {
		n, _ := s.Node(id)
		return must(t, s, SetNodeStatus{ID: id, Seen: n.Index, Status: status})
	}
	t.Run("a newer spec", func(t *testing.T) {
		s := must(t, draining(t), PutService{Spec: Spec{Name: "acts", Image: "acts:3"}.WithDefaults()})
		s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Stopped})
		if r := row(t, s, 1); r.Build != 3 || r.Image != "acts:3" {
			t.Errorf("begun anew as %+v", r)
		}
	})
	t.Run("the death of its next node", func(t *testing.T) {
		s := setNode(t, draining(t), "n2", NodeDead)
		s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Stopped})
		if r := row(t, s, 1); r.Node != "n1" || r.Desired != Running {
			t.Errorf("begun anew as %+v", r)
		}
	})
	t.Run("the death of its node", func(t *testing.T) {
		s := setNode(t, draining(t), "n1", NodeDead)
		s = must(t, s, Forget{Row: row(t, s, 1).Row()})
		if r := row(t, s, 1); r.Node != "n2" || r.Generation != 2 {
			t.Errorf("begun anew as %+v", r)
		}
	})
	t.Run("the end of its service", func(t *testing.T) {
		s := must(t, draining(t), RemoveService{Name: "acts"})
		s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Stopped})
		if _, there := s.Container("acts", 1); there {
			t.Error("it began anew")
		}
	})
	t.Run("its own end", func(t *testing.T) {
		s := revised(t)
		s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Stopped})
		s = must(t, s, Renew{Row: row(t, s, 1).Row(), Node: "n1", Build: 2})
		s = must(t, s, Stop{Row: row(t, s, 1).Row()})
		if r := row(t, s, 1); r.Generation != 2 || r.Desired != Running || r.Build != 2 {
			t.Errorf("begun anew as %+v", r)
		}
	})
}

// TestRevisions: what makes a revision, and which containers it asks for.
func TestRevisions(t *testing.T) {
	s := revised(t)
	newest := service(t, s).Newest()
	if newest.Number != 2 || newest.Build != 2 || newest.By != "ann" || newest.Why != "release 2" || newest.Outcome != Rolling || newest.At != s.Stamp {
		t.Errorf("another image: %+v", newest)
	}
	routed := newest.Spec
	routed.Routes = []string{"/a"}
	if _, _, err := Apply(s, s.Applied+1, 1, s.Stamp, PutService{Spec: routed, Base: 1}); !errors.Is(err, ErrStale) {
		t.Errorf("made from the revision before: %v", err)
	}
	s = must(t, s, PutService{Spec: routed, Base: 2})
	if r := service(t, s).Newest(); r.Number != 3 || r.Build != 2 {
		t.Errorf("other routes: %+v", r)
	}
	if r := service(t, s).Revisions[1]; r.Outcome != Replaced || r.Ended == 0 {
		t.Errorf("overtaken: %+v", r)
	}
	s = must(t, s, PutService{Spec: routed, Restart: "x"})
	if r := service(t, s).Newest(); r.Number != 4 || r.Build != 4 {
		t.Errorf("restarted: %+v", r)
	}
	s = must(t, s, RollBack{Service: "acts", Left: 4, To: 1, Failed: true, Reason: "it dies"})
	sv := service(t, s)
	if r := sv.Newest(); r.Number != 5 || r.Build != 1 || r.From != 1 || r.Spec.Image != "acts:1" || sv.Spec.Image != "acts:1" {
		t.Errorf("rolled back: %+v", r)
	}
	if r := sv.Revisions[3]; r.Outcome != Failed || r.Reason != "it dies" {
		t.Errorf("left: %+v", r)
	}
	if _, _, err := Apply(s, s.Applied+1, 1, s.Stamp, RollBack{Service: "acts", Left: 5, To: 9}); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("back to a revision that never was: %v", err)
	}
	s = must(t, s, EndRollout{Service: "acts", Revision: 5, Outcome: Failed})
	s = must(t, s, EndRollout{Service: "acts", Revision: 5, Outcome: Good})
	if _, _, err := Apply(s, s.Applied+1, 1, s.Stamp, EndRollout{Service: "acts", Revision: 5, Outcome: Failed}); !errors.Is(err, ErrStale) {
		t.Errorf("what is good has failed: %v", err)
	}
	if good, ok := service(t, s).LastGood(); !ok || good.Number != 1 {
		t.Errorf("last good: %+v", good)
	}
}

// TestImageBuiltAgain under its tag is another build; one that is not known is none.
func TestImageBuiltAgain(t *testing.T) {
	s := table(t)
	spec := service(t, s).Spec
	s = must(t, s, PutService{Spec: spec, ImageID: "i1"})
	if r := service(t, s).Newest(); r.Number != 1 {
		t.Errorf("an ID where none was known: %+v", r)
	}
	spec.Env = map[string]string{"A": "1"}
	for _, c := range []struct {
		id            string
		number, build uint64
	}{{"i1", 2, 2}, {"", 2, 2}, {"i1", 2, 2}, {"i2", 3, 3}} {
		s = must(t, s, PutService{Spec: spec, ImageID: c.id})
		if r := service(t, s).Newest(); r.Number != c.number || r.Build != c.build {
			t.Errorf("%q: %+v", c.id, r)
		}
	}
	spec.Routes = []string{"/a"}
	s = must(t, s, PutService{Spec: spec})
	if r := service(t, s).Newest(); r.Build != 3 || r.ImageID != "i2" {
		t.Errorf("nobody could be asked: %+v", r)
	}
	s = must(t, s, RollBack{Service: "acts", Left: 4, To: 2})
	s = must(t, s, Place{Service: "acts", Number: 3, Node: "n1", Port: 8002})
	if r := row(t, s, 3); r.ImageID != "i1" || r.Build != 2 {
		t.Errorf("back to %+v", r)
	}
}

// TestRevisionsAreBounded, and what runs and the last good one stay.
func TestRevisionsAreBounded(t *testing.T) {
	s := table(t) // two rows of build 1
	s = must(t, s, PutService{Spec: Spec{Name: "acts", Image: "acts:2"}.WithDefaults()})
	s = must(t, s, EndRollout{Service: "acts", Revision: 2, Outcome: Good})
	for i := range 30 {
		s = must(t, s, PutService{Spec: Spec{Name: "acts", Image: "acts:2", Env: map[string]string{"N": string(rune('a' + i))}}.WithDefaults()})
	}
	sv := service(t, s)
	if len(sv.Revisions) != MaxRevisions || sv.Revisions[0].Number != 1 || sv.Revisions[1].Number != 2 || sv.Newest().Number != 32 {
		t.Errorf("%d kept, from %d", len(sv.Revisions), sv.Revisions[0].Number)
	}
	if got := sv.SpecOf(row(t, s, 1)); got.Image != "acts:1" {
		t.Errorf("row 1 is made from %s", got.Image)
	}
}

// TestSameContainers: every field of a spec is either in the containers or not, and a
// new one is until somebody decides otherwise.
func TestSameContainers(t *testing.T) {
	free := []string{"PortBase", "Routes", "Scale", "Rollout", "Turn", "Uncounted", "ExposeInternal", "DebugHeaders", "MaxBody", "Timeout", "Drain", "Grace"}
	base := samples()["05-put-service-secret"].(PutService).Spec
	v := reflect.TypeOf(base)
	for i := range v.NumField() {
		changed := base
		name := v.Field(i).Name
		f := reflect.ValueOf(&changed).Elem().Field(i)
		f.SetZero()
		if name == "Health" {
			changed.Health = base.Health
			changed.Health.Failures = 9
			if !SameContainers(base, changed) {
				t.Error("another number of failures asks for other containers")
			}
			changed.Health.Path = "/other"
		}
		if got, want := SameContainers(base, changed), slices.Contains(free, name); got != want {
			t.Errorf("without its %s the same containers: %v, want %v", name, got, want)
		}
	}
}

// TestDrainNode is a will that outlives the node's own words.
func TestDrainNode(t *testing.T) {
	s := must(t, table(t), DrainNode{ID: "n1", Deadline: 99, By: "ann"})
	n, _ := s.Node("n1")
	if !n.Leaving() || n.Status != NodeAlive || last(s).Kind != "node-drained" {
		t.Errorf("drained: %+v, %+v", n, last(s))
	}
	n.DrainDeadline, n.Version = 0, "2"
	s = must(t, s, PutNode{Node: n})
	if n, _ = s.Node("n1"); !n.Leaving() {
		t.Errorf("after a word of its own: %+v", n)
	}
	left := must(t, s, SetNodeStatus{ID: "n1", Seen: s.Applied, Status: NodeLeft})
	left = must(t, left, PutNode{Node: n})
	if back, _ := left.Node("n1"); back.Leaving() {
		t.Errorf("joined anew: %+v", back)
	}
	s = must(t, s, DrainNode{ID: "n1"})
	if n, _ = s.Node("n1"); n.Leaving() || last(s).Kind != "node-undrained" {
		t.Errorf("undrained: %+v", n)
	}
}

// TestLeaveOutlivesADeath: a node that dies on its way out is on it still.
func TestLeaveOutlivesADeath(t *testing.T) {
	s := table(t)
	to := func(status NodeStatus, leaves bool) {
		t.Helper()
		s = must(t, s, SetNodeStatus{ID: "n1", Seen: s.Applied, Status: status})
		if n, _ := s.Node("n1"); n.ToldToLeave() != leaves || n.Leaving() != leaves || n.Leaves && n.Status != NodeDead {
			t.Errorf("%s, to leave %t: %+v", status, leaves, n)
		}
	}
	to(NodeDead, false)
	to(NodeAlive, false)
	to(NodeDraining, true)
	to(NodeDead, true)
	to(NodeDead, true) // said twice
	n, _ := s.Node("n1")
	n.Leaves, n.Version = false, "2"
	s = must(t, s, PutNode{Node: n})
	if n, _ := s.Node("n1"); !n.Leaves {
		t.Errorf("after a word of its own: %+v", n)
	}
	to(NodeDraining, true)
	to(NodeDead, true)
	to(NodeLeft, false)
	s = must(t, s, PutNode{Node: n})
	if n, _ := s.Node("n1"); n.Leaving() || n.Status != NodeAlive {
		t.Errorf("joined anew: %+v", n)
	}
}

// TestRowsAreNeverLost: whatever happens to a row that is to begin anew, it does so
// under its number, or its service is to go.
func TestRowsAreNeverLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, states := drawLog(t)
		for i := 1; i < len(states); i++ {
			for _, was := range states[i-1].Containers {
				now, there := states[i].Container(was.Service, was.Number)
				sv, _ := states[i-1].Service(was.Service)
				if was.NextNode != "" && !sv.Removing && !there {
					t.Fatalf("%+v is gone", was)
				}
				if there && now.Created == was.Created && now.Build != was.Build && (now.Generation != was.Generation+1 || now.Proven) {
					t.Fatalf("%+v came to another build as %+v", was, now)
				}
			}
		}
	})
}
