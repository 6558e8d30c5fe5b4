package control

import (
	"strings"
	"testing"

	"orch/fsm"
)

// TestWhatIsWaitedFor is named in status, with what to do.
func TestWhatIsWaitedFor(t *testing.T) {
	const now = int64(1_000_000)
	good := fsm.Revision{Number: 1, Build: 1, Spec: spec(1), Outcome: fsm.Good}
	next := fsm.Revision{Number: 2, Build: 2, Spec: spec(1), Outcome: fsm.Rolling}
	row := fsm.Container{Service: "acts", Number: 1, Generation: 1, Node: "a", Port: 8000, Status: true, Desired: fsm.Running, Observed: fsm.Running, Build: 1}
	rolling := []fsm.Service{{Name: "acts", Spec: spec(1), Revisions: []fsm.Revision{good, next}, Decision: fsm.Decision{Desired: 1}}}
	full := func() (rows []fsm.Container) {
		rows = append(rows, row)
		for port := 8001; port <= fsm.MaxPort; port++ {
			r := row
			r.Service, r.Number, r.Port = "other", port, port
			rows = append(rows, r)
		}
		return rows
	}
	for name, c := range map[string]struct {
		v          fsm.State
		what, says string
	}{
		"a leave that costs the majority": {fsm.State{Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeDraining}, {ID: "b", Status: fsm.NodeAlive}, {ID: "c", Status: fsm.NodeDead}}}, "remove node a", "orchctl remove"},
		"a leave with rows":               {fsm.State{Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeDraining}, {ID: "b", Status: fsm.NodeAlive}}, Containers: []fsm.Container{row}}, "remove node a", "1 of its containers"},
		"a roll-out without a place":      {fsm.State{Services: rolling, Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeAlive, DrainDeadline: now + 1}}, Containers: []fsm.Container{row}}, "roll out acts revision 2", "orchctl undrain"},
		"a roll-out without a port":       {fsm.State{Services: rolling, Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeAlive}}, Containers: full()}, "roll out acts revision 2", "free port"},
	} {
		found := false
		for _, p := range Upcoming(&c.v, now, nil) {
			found = found || p.What == c.what && strings.Contains(p.Reason, c.says)
		}
		if !found {
			t.Errorf("%s: %+v", name, Upcoming(&c.v, now, nil)[:min(3, len(Upcoming(&c.v, now, nil)))])
		}
	}
	for _, p := range Upcoming(&fsm.State{Services: rolling, Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeAlive}}, Containers: []fsm.Container{row}}, now, nil) {
		if strings.Contains(p.Reason, "waits for") {
			t.Errorf("nothing is missing: %+v", p)
		}
	}
}

// TestNothingIsCountedDownThatCannotBe: no vote is taken without a majority that can
// acknowledge, and without a leader nothing happens at all.
func TestNothingIsCountedDownThatCannotBe(t *testing.T) {
	const now = int64(1_000_000)
	v := &fsm.State{Nodes: []fsm.Node{{ID: "a", Status: fsm.NodeAlive}, {ID: "b", Status: fsm.NodeAlive}, {ID: "c", Status: fsm.NodeDead, Since: now}}}
	if p := Upcoming(v, now, nil); len(p) != 1 || p[0].DueMS != reapAfter.Milliseconds() {
		t.Errorf("%+v", p)
	}
	if p := Upcoming(v, now, map[string]string{"b": "is fenced"}); len(p) != 1 || p[0].DueMS != waiting || !strings.Contains(p[0].Reason, "can acknowledge") {
		t.Errorf("b is fenced: %+v", p)
	}
	if p := Stalled(Upcoming(v, now, nil)); len(p) != 1 || p[0].DueMS != waiting || !strings.HasPrefix(p[0].Reason, "waits for a leader") {
		t.Errorf("without a leader: %+v", p)
	}
	onC := fsm.Container{Service: "acts", Number: 1, Node: "c", Status: true, Desired: fsm.Running, Observed: fsm.Running}
	v.Containers = []fsm.Container{onC}
	if p := Upcoming(v, now+reapAfter.Milliseconds(), nil); len(p) != 1 || p[0].DueMS != waiting || !strings.Contains(p[0].Reason, "1 of its containers") {
		t.Errorf("dead for a day, with a row: %+v", p)
	}
}
