package fsm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// must applies a command that may not be refused.
func must(t testing.TB, s *State, c Command) *State {
	t.Helper()
	next, _, err := Apply(s, s.Applied+1, 1, s.Stamp+1000, c)
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	if err := Check(next); err != nil {
		t.Fatal(err)
	}
	return next
}

// table is a cluster of two nodes with a running row of acts on each.
func table(t testing.TB) *State {
	t.Helper()
	s := must(t, &State{Stamp: 1_000_000}, InitCluster{ClusterID: "c1"})
	for i, id := range []string{"n1", "n2"} {
		addr := fmt.Sprintf("10.0.0.%d", i+1)
		s = must(t, s, PutNode{Node: Node{ID: id, Addr: addr, RaftAddr: addr + ":7481", APIAddr: addr + ":7480"}})
	}
	s = must(t, s, PutService{Spec: Spec{Name: "acts", Image: "acts:1"}.WithDefaults()})
	for i, id := range []string{"n1", "n2"} {
		s = must(t, s, Place{Service: "acts", Number: i + 1, Node: id, Port: 8000 + i})
		s = must(t, s, Observe{Node: id, Service: "acts", Number: i + 1, Generation: 1, Phase: Running})
	}
	return s
}

func row(t testing.TB, s *State, number int) Container {
	t.Helper()
	c, ok := s.Container("acts", number)
	if !ok {
		t.Fatalf("no row %d", number)
	}
	return c
}

// TestInitAgain: an init that was cut off may be repeated.
func TestInitAgain(t *testing.T) {
	s := table(t)
	if again := must(t, s, InitCluster{ClusterID: "c1"}); again.Changed != s.Changed {
		t.Error("the same cluster made again changes the state")
	}
}

func TestRefusals(t *testing.T) {
	s := must(t, table(t), TakeTurns{Service: "acts", Node: "n1", Epoch: 7, Seq: 3, Count: 5})
	for _, n := range []struct {
		id, at string
		then   NodeStatus
	}{{"n4", "d", NodeDraining}, {"n5", "e", NodeDead}, {"n6", "e", NodeSuspect}, {"n7", "f", NodeLeft}} {
		s = must(t, s, PutNode{Node: Node{ID: n.id, RaftAddr: n.at + ":1", APIAddr: n.at + ":2"}})
		s = must(t, s, SetNodeStatus{ID: n.id, Seen: s.Applied, Status: n.then})
	}
	s = must(t, s, PutService{Spec: Spec{Name: "old", Image: "old"}.WithDefaults()})
	s = must(t, s, Place{Service: "old", Number: 1, Node: "n1", Port: 8100})
	s = must(t, s, RemoveService{Name: "old"})
	s = must(t, s, Place{Service: "acts", Number: 4, Node: "n2", Port: 8003})
	s = must(t, s, Drain{Row: row(t, s, 4).Row()})
	s = must(t, s, Place{Service: "acts", Number: 5, Node: "n2", Port: 8004})
	s = must(t, s, Drain{Row: row(t, s, 5).Row()})
	s = must(t, s, Stop{Row: row(t, s, 5).Row()})
	r := row(t, s, 1)
	node, _ := s.Node("n2")
	for _, c := range []struct {
		name string
		cmd  Command
		want error
	}{
		{"another cluster", InitCluster{ClusterID: "c2"}, ErrForeign},
		{"a node without addresses", PutNode{Node: Node{ID: "n3"}}, ErrOutOfRange},
		{"an address that is held", PutNode{Node: Node{ID: "n3", RaftAddr: "10.0.0.1:7481", APIAddr: "x"}}, ErrAddrInUse},
		{"an ID that is alive elsewhere", PutNode{Node: Node{ID: "n1", RaftAddr: "y:1", APIAddr: "y:2"}}, ErrExists},
		{"a status of an unknown node", SetNodeStatus{ID: "n9", Status: NodeDead}, ErrNoSuchNode},
		{"the API address that is held", PutNode{Node: Node{ID: "n3", RaftAddr: "x", APIAddr: "10.0.0.1:7480"}}, ErrAddrInUse},
		{"an ID that drains elsewhere", PutNode{Node: Node{ID: "n4", RaftAddr: "y:1", APIAddr: "y:2"}}, ErrExists},
		{"life for one whose address was taken", SetNodeStatus{ID: "n5", Seen: s.Applied, Status: NodeAlive}, ErrAddrInUse},
		{"doubt of one whose address was taken", SetNodeStatus{ID: "n5", Seen: s.Applied, Status: NodeSuspect}, ErrAddrInUse},
		{"an odd status", SetNodeStatus{ID: "n1", Status: "odd"}, ErrOutOfRange},
		{"a status from before", SetNodeStatus{ID: "n2", Status: NodeDead, Seen: node.Index - 1}, ErrStale},
		{"a node with rows", RemoveNode{ID: "n1"}, ErrNodeInUse},
		{"an unknown node", RemoveNode{ID: "n9"}, ErrNoSuchNode},
		{"a service without a name", PutService{}, ErrOutOfRange},
		{"an unknown service removed", RemoveService{Name: "none"}, ErrNoSuchService},
		{"too many by hand", ScaleByHand{Service: "acts", Count: 11}, ErrOutOfRange},
		{"an unknown service scaled", ScaleByHand{Service: "none", Count: 1}, ErrNoSuchService},
		{"a decision from before", Decide{Service: "acts"}, ErrStale},
		{"a number that is taken", Place{Service: "acts", Number: 1, Node: "n1", Port: 8005}, ErrExists},
		{"a port that is taken", Place{Service: "acts", Number: 3, Node: "n1", Port: 8001}, ErrPortInUse},
		{"a port out of range", Place{Service: "acts", Number: 3, Node: "n1", Port: 9000}, ErrOutOfRange},
		{"number nought", Place{Service: "acts", Number: 0, Node: "n1", Port: 8005}, ErrOutOfRange},
		{"an unknown node placed on", Place{Service: "acts", Number: 3, Node: "n9", Port: 8005}, ErrNoSuchNode},
		{"a relaunch onto a taken port", Relaunch{Row: r.Row(), Node: "n1", Port: 8001}, ErrPortInUse},
		{"an unknown row", Stop{Row: Row{Service: "acts", Number: 9, Generation: 1}}, ErrNoSuchRow},
		{"a drained row relaunched", Relaunch{Row: row(t, s, 4).Row(), Node: "n2", Port: 8003}, ErrStale},
		{"a drained row drained", Drain{Row: row(t, s, 4).Row()}, ErrStale},
		{"a stopped row stopped", Stop{Row: row(t, s, 5).Row()}, ErrStale},
		{"health of one that does not run", SetStatus{Row: row(t, s, 4).Row(), Status: true}, ErrStale},
		{"a row in a service that is to go", Place{Service: "old", Number: 2, Node: "n1", Port: 8101}, ErrNoSuchService},
		{"a row on a dead node", Place{Service: "acts", Number: 3, Node: "n5", Port: 8005}, ErrNodeDown},
		{"a row on a node that left", Relaunch{Row: r.Row(), Node: "n7", Port: 8000}, ErrNodeDown},
		{"port nought", Relaunch{Row: r.Row(), Node: "n1", Port: 0}, ErrOutOfRange},
		{"a spec from before", PutService{Spec: Spec{Name: "acts", Image: "acts:0"}, Seen: 1}, ErrStale},
		{"fewer than none", Decide{Service: "acts", Seen: s.Applied, Decision: Decision{Desired: -1}}, ErrOutOfRange},
		{"a decision on an unknown service", Decide{Service: "none"}, ErrNoSuchService},
		{"fewer than the least by hand", ScaleByHand{Service: "acts", Count: -1}, ErrOutOfRange},
		{"another generation", Stop{Row: Row{Service: "acts", Number: 1, Generation: 2, Seen: r.Index}}, ErrStale},
		{"a running row forgotten", Forget{Row: r.Row()}, ErrStale},
		{"a phase backwards", Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Pending}, ErrStale},
		{"another node's row observed", Observe{Node: "n2", Service: "acts", Number: 1, Generation: 1, Phase: Stopped}, ErrStale},
		{"another generation observed", Observe{Node: "n1", Service: "acts", Number: 1, Generation: 2, Phase: Running}, ErrStale},
		{"the row before this one observed", Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Created: r.Created - 1, Phase: Stopped}, ErrStale},
		{"no row observed", Observe{Node: "n1", Service: "acts", Number: 9, Generation: 1, Phase: Running}, ErrNoSuchRow},
		{"a phase that there is not", Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: "odd"}, ErrOutOfRange},
		{"an odd phase", Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Draining}, ErrOutOfRange},
		{"turns for an unknown node", TakeTurns{Service: "acts", Node: "n9", Count: 1}, ErrNoSuchNode},
		{"turns of an unknown service", TakeTurns{Service: "none", Node: "n1", Count: 1}, ErrNoSuchService},
		{"turns for another count than the first time", TakeTurns{Service: "acts", Node: "n1", Epoch: 7, Seq: 3, Count: 6}, ErrStale},
		{"turns of a number gone by", TakeTurns{Service: "acts", Node: "n1", Epoch: 7, Seq: 2, Count: 5}, ErrStale},
		{"turns of an earlier life of the node", TakeTurns{Service: "acts", Node: "n1", Epoch: 6, Seq: 9, Count: 5}, ErrStale},
		{"too many turns", TakeTurns{Service: "acts", Node: "n1", Count: MaxTurnsPerTake + 1}, ErrOutOfRange},
	} {
		next, _, err := Apply(s, s.Applied+1, 1, s.Stamp, c.cmd)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if !sameContent(t, s, next) || next.Changed != s.Changed {
			t.Errorf("%s: refused and changed the state", c.name)
		}
	}
}

// TestLifeOfARow from its placing to its end.
func TestLifeOfARow(t *testing.T) {
	s := table(t)
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true})
	if got := s.Rotation("acts"); len(got) != 1 || got[0].Number != 1 {
		t.Fatalf("rotation %+v", got)
	}
	s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 1, Phase: Stopped, Reason: "exit code 137"})
	if r := row(t, s, 1); r.Status || r.Reason != "exit code 137" || r.Phase() != Stopped {
		t.Fatalf("after its death: %+v", r)
	}
	s = must(t, s, BackOff{Row: row(t, s, 1).Row(), RetryAt: s.Stamp + 5000, Failures: 1, Reason: "next try in 5s"})
	s = must(t, s, Relaunch{Row: row(t, s, 1).Row(), Node: "n2", Port: 8000, Failures: 2, Reason: "again"})
	if r := row(t, s, 1); r.Generation != 2 || r.Node != "n2" || r.Observed != Pending || r.RetryAt != 0 || r.Failures != 2 {
		t.Fatalf("after its relaunch: %+v", r)
	}
	s = must(t, s, Observe{Node: "n2", Service: "acts", Number: 1, Generation: 2, Phase: Running, LocalAddr: "172.17.0.2:8000"})
	s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true})
	s = must(t, s, Drain{Row: row(t, s, 1).Row(), Deadline: s.Stamp, Reason: "fewer requests"})
	if len(s.Rotation("acts")) != 0 || row(t, s, 1).Phase() != Draining {
		t.Fatalf("while it drains: %+v", row(t, s, 1))
	}
	s = must(t, s, Stop{Row: row(t, s, 1).Row()})
	s = must(t, s, Observe{Node: "n2", Service: "acts", Number: 1, Generation: 2, Phase: Stopped})
	if _, ok := s.Container("acts", 1); ok {
		t.Error("the row is still there")
	}
}

// TestFailuresAreForgotten once a row has been healthy for StableAfter.
func TestFailuresAreForgotten(t *testing.T) {
	for _, c := range []struct{ healthyFor, want int64 }{{StableAfter - 1, 3}, {StableAfter, 0}} {
		s := table(t)
		s = must(t, s, Relaunch{Row: row(t, s, 1).Row(), Node: "n1", Port: 8000, Failures: 3})
		s = must(t, s, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 2, Phase: Running})
		s = must(t, s, SetStatus{Row: row(t, s, 1).Row(), Status: true})
		next, _, err := Apply(s, s.Applied+1, 1, s.Stamp+c.healthyFor, Observe{Node: "n1", Service: "acts", Number: 1, Generation: 2, Phase: Stopped})
		if err != nil || row(t, next, 1).Failures != int(c.want) {
			t.Errorf("healthy for %d ms: %d failures (%v), want %d", c.healthyFor, row(t, next, 1).Failures, err, c.want)
		}
	}
}

func TestServiceGoesWithItsLastRow(t *testing.T) {
	s := must(t, table(t), RemoveService{Name: "acts"})
	for n := 1; n <= 2; n++ {
		s = must(t, s, Drain{Row: row(t, s, n).Row()})
		s = must(t, s, Stop{Row: row(t, s, n).Row()})
		s = must(t, s, Forget{Row: row(t, s, n).Row()})
	}
	if _, ok := s.Service("acts"); ok {
		t.Error("the service is still there")
	}
}

// TestRequestsOfTheWindow: whole seconds, the newest included, the one that is a
// window old not.
func TestRequestsOfTheWindow(t *testing.T) {
	s := table(t)
	base := s.Stamp/1000*1000 + 10_000
	for i, at := range []int64{0, 500, 60_000, 119_999, 120_000} {
		next, _, err := Apply(s, s.Applied+1, 1, base+at, TakeTurns{Service: "acts", Node: "n1", Epoch: 1, Seq: uint64(i + 1), Served: 1})
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	sv, _ := s.Service("acts")
	window := (2 * time.Minute).Milliseconds()
	for _, c := range []struct {
		now  int64
		want uint64
	}{{base, 2}, {base + 119_999, 4}, {base + 120_000, 3}, {base + 180_000, 2}, {base + 240_000, 0}} {
		if got := sv.Requests(c.now, window); got != c.want {
			t.Errorf("%d ms after the first: %d requests, want %d", c.now-base, got, c.want)
		}
	}
}

// TestTurnsOutliveTheirService: one that comes back under an old name goes on above
// every turn there has been.
func TestTurnsOutliveTheirService(t *testing.T) {
	s := table(t)
	for _, name := range []string{"a", "b"} {
		s = must(t, s, PutService{Spec: Spec{Name: name, Image: "x"}.WithDefaults()})
		s = must(t, s, TakeTurns{Service: name, Node: "n1", Epoch: 1, Seq: 1, Count: 30})
	}
	s = must(t, s, TakeTurns{Service: "a", Node: "n1", Epoch: 1, Seq: 2, Count: 30})
	s = must(t, s, RemoveService{Name: "a"})
	s = must(t, s, RemoveService{Name: "b"})
	s = must(t, s, PutService{Spec: Spec{Name: "a", Image: "x"}.WithDefaults()})
	if _, from, err := Apply(s, s.Applied+1, 1, s.Stamp, TakeTurns{Service: "a", Node: "n1", Epoch: 1, Seq: 1, Count: 1}); err != nil || from != uint64(60) {
		t.Errorf("the first turn of its second life: %v, %v; want 60", from, err)
	}
}

// TestNodesComeBack: one that is gone may come back elsewhere, and another may take
// the addresses it had.
func TestNodesComeBack(t *testing.T) {
	at := func(id, addr string) PutNode {
		return PutNode{Node: Node{ID: id, Addr: addr, RaftAddr: addr + ":7481", APIAddr: addr + ":7480"}}
	}
	for _, gone := range []NodeStatus{NodeDead, NodeLeft} {
		s := table(t)
		n, _ := s.Node("n2")
		s = must(t, s, SetNodeStatus{ID: "n2", Seen: n.Index, Status: gone})
		s = must(t, s, at("n3", n.Addr))
		s = must(t, s, at("n2", "10.0.0.9"))
		want := map[NodeStatus]NodeStatus{NodeDead: NodeDead, NodeLeft: NodeAlive}[gone]
		back, _ := s.Node("n2")
		if back.RaftAddr != "10.0.0.9:7481" || back.Status != want || back.Index != s.Applied || (back.Since == s.Stamp) != (want == NodeAlive) {
			t.Errorf("%s, then put: %+v, want it %s", gone, back, want)
		}
		s = must(t, s, SetNodeStatus{ID: "n2", Seen: back.Index, Status: NodeAlive})
		if back, _ = s.Node("n2"); back.Status != NodeAlive {
			t.Errorf("seen again: %+v", back)
		}
	}
}

// TestReasonsAreOneLine: cut at MaxReason bytes, and never within a character, for a
// snapshot would not keep half of one.
func TestReasonsAreOneLine(t *testing.T) {
	for n := range 4 {
		long := strings.Repeat("x", n) + strings.Repeat("é世", MaxReason)
		s := table(t)
		s = must(t, s, BackOff{Row: row(t, s, 1).Row(), Reason: long})
		for _, got := range []string{row(t, s, 1).Reason, s.Events[len(s.Events)-1].Reason} {
			if !utf8.ValidString(got) || len(got) > MaxReason || len(got) < MaxReason-3 || !strings.HasPrefix(long, got) {
				t.Errorf("%d bytes %q", len(got), got)
			}
		}
	}
	big := Note{ID: "x", What: strings.Repeat("x", MaxReason)}
	if _, _, err := Apply(&State{}, 1, 1, 0, big); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("a note with a long kind: %v", err)
	}
}

func TestRingOfEventsIsBounded(t *testing.T) {
	s := &State{}
	for i := range MaxEvents + 10 {
		s = must(t, s, Note{ID: fmt.Sprint(i), What: "note"})
	}
	if len(s.Events) != MaxEvents || s.Events[0].ID != "10" {
		t.Errorf("%d events, the oldest %q", len(s.Events), s.Events[0].ID)
	}
}
