package fsm

import "testing"

// last is the newest event.
func last(s *State) Event { return s.Events[len(s.Events)-1] }

// TestRelaunchForgets what the generation before was and met.
func TestRelaunchForgets(t *testing.T) {
	s := table(t)
	began := row(t, s, 1).Began
	s = must(t, s, PutService{Spec: Spec{Name: "acts", Image: "acts:2"}.WithDefaults()})
	s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Running, LocalAddr: "172.17.0.2:8000"})
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true})
	s = must(t, s, BackOff{Row: row(t, s, 1).Row(), RetryAt: s.Stamp + 5000, Failures: 1, Reason: "next try in 5s"})
	if r := row(t, s, 1); r.Status || r.Since != s.Stamp || r.RetryAt == 0 || r.Failures != 1 {
		t.Errorf("a healthy row in a back-off: %+v", r)
	}
	s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Stopped, LocalAddr: "172.17.0.2:8000", PortTaken: true, Reason: "port 8000 is taken"})
	if r := row(t, s, 1); !r.PortTaken || r.Image != "acts:1" || !r.Proven {
		t.Errorf("before its relaunch: %+v", r)
	}
	s = must(t, s, Relaunch{Row: row(t, s, 1).Row(), Node: "n1", Port: 8007, Reason: "port 8000 is taken"})
	want := Container{
		Service: "acts", Number: 1, Generation: 2, Node: "n1", Port: 8007, Desired: Running, Observed: Pending,
		Build: 1, Began: began, Proven: true, Image: "acts:1", Reason: "port 8000 is taken", Since: s.Stamp, Created: row(t, s, 1).Created, Index: s.Applied,
	}
	if r := row(t, s, 1); r != want {
		t.Errorf("after its relaunch\n%+v, want\n%+v", r, want)
	}
}

// TestStartEndsAWait: a container that begins to run while its relaunch is waited for is
// judged as any that begins.
func TestStartEndsAWait(t *testing.T) {
	s := must(t, table(t), Place{Service: "acts", Number: 3, Node: "n1", Port: 8002})
	s = must(t, s, BackOff{Row: row(t, s, 3).Row(), RetryAt: s.Stamp + 60_000, Failures: 3, Reason: "node n1 has not started it within 1m15s"})
	s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 3, Generation: 1, Phase: Running})
	if r := row(t, s, 3); r.RetryAt != 0 || r.Since != s.Stamp || r.Failures != 3 {
		t.Errorf("%+v", r)
	}
}

// TestObserve keeps the reason that stands unless it brings one, and tells of a
// death once.
func TestObserve(t *testing.T) {
	s := table(t)
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Reason: "no answer yet"})
	seen := func(p Phase, addr, why string) {
		s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Created: row(t, s, 1).Created, Phase: p, LocalAddr: addr, Reason: why})
	}
	seen(Running, "172.17.0.2:8000", "")
	if r := row(t, s, 1); r.Reason != "no answer yet" || r.LocalAddr != "172.17.0.2:8000" {
		t.Errorf("observed without a reason: %+v", r)
	}
	seen(Stopped, "", "exit code 137")
	died := len(s.Events)
	if e := last(s); e.Kind != "died" || e.Reason != "exit code 137" {
		t.Errorf("its death is told as %+v", e)
	}
	seen(Stopped, "", "exit code 137, out of memory")
	if r := row(t, s, 1); r.Reason != "exit code 137, out of memory" || len(s.Events) != died {
		t.Errorf("more of the same death: %+v, %d events after %d", r, len(s.Events), died)
	}
}

// TestWaysOut of the table: a drained row that has ended goes at once when it is told
// to stop; one that still runs is out of rotation until it has.
func TestWaysOut(t *testing.T) {
	s := table(t)
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true})
	s = must(t, s, Drain{Row: row(t, s, 1).Row(), Deadline: 77, Reason: "fewer requests"})
	if r := row(t, s, 1); r.DrainDeadline != 77 || r.Phase() != Draining || !r.Status || s.InRotation(r) {
		t.Errorf("while it drains: %+v", r)
	}
	s = must(t, s, Stop{Row: row(t, s, 1).Row()})
	if r := row(t, s, 1); r.Status || r.Desired != Stopped || r.Phase() != Draining {
		t.Errorf("told to stop: %+v", r)
	}
	s = must(t, s, Observe{Node: "n2", Service: "acts", Number: 2, Generation: 1, Phase: Stopped, Reason: "exit code 1"})
	s = must(t, s, Drain{Row: row(t, s, 2).Row()})
	if r := row(t, s, 2); r.Phase() != Stopped {
		t.Errorf("drained after its end it is %s", r.Phase())
	}
	s = must(t, s, Stop{Row: row(t, s, 2).Row()})
	if _, there := s.Container("acts", 2); there || last(s).Kind != "stopped" {
		t.Errorf("told to stop after its end: %v, %+v", there, last(s))
	}
}

// TestServiceTakenBack: to put a service that is to go keeps it, with the same spec
// too; what was set by hand is kept within the new limits.
func TestServiceTakenBack(t *testing.T) {
	s := must(t, table(t), ScaleByHand{Service: "acts", Count: 9})
	sv, _ := s.Service("acts")
	spec := sv.Spec
	s = must(t, s, RemoveService{Name: "acts"})
	s = must(t, s, PutService{Spec: spec})
	if sv, _ = s.Service("acts"); sv.Removing || sv.Manual != 9 {
		t.Errorf("taken back: %+v", sv)
	}
	spec.Scale.Max = 4
	stale := PutService{Spec: spec, Seen: sv.Index - 1}
	if _, _, err := Apply(s, s.Applied+1, 1, s.Stamp, stale); err == nil {
		t.Error("a spec that was made from the version before was taken")
	}
	s = must(t, s, PutService{Spec: spec, Seen: sv.Index})
	if sv, _ = s.Service("acts"); sv.Manual != 4 {
		t.Errorf("%d by hand, at most 4 are allowed", sv.Manual)
	}
}

// TestTurnRow: turn t goes to the (t mod n)-th row in rotation, in the order of
// numbers; rows of a node that has left get none, those of a dead daemon do.
func TestTurnRow(t *testing.T) {
	s := table(t)
	if _, ok := s.TurnRow("acts"); ok {
		t.Error("a turn for a row that is not healthy")
	}
	for n := 1; n <= 2; n++ {
		s = must(t, s, SetStatus{Row: row(t, s, n).Row(), Status: true})
	}
	for i, want := range []int{1, 2, 1, 2} {
		if got, ok := s.TurnRow("acts"); !ok || got.Number != want {
			t.Errorf("turn %d goes to %d, want %d", i, got.Number, want)
		}
		s = must(t, s, TakeTurns{Service: "acts", Node: "n1", Epoch: 1, Seq: uint64(i + 1), Count: 1})
	}
	for status, want := range map[NodeStatus]int{NodeDead: 2, NodeSuspect: 2, NodeDraining: 2, NodeLeft: 1} {
		n, _ := s.Node("n2")
		if next := must(t, s, SetNodeStatus{ID: "n2", Seen: n.Index, Status: status}); len(next.Rotation("acts")) != want {
			t.Errorf("with n2 %s the rotation is %+v, want %d", status, next.Rotation("acts"), want)
		}
	}
}
