package agent

import (
	"context"
	"errors"
	"testing"
	"time"

	"orch/fsm"
	"orch/proxy"
)

// cluster is a store with two nodes and three rows of acts: one healthy on each node
// and one that drains on n2.
func cluster(t *testing.T) *fsm.Store {
	t.Helper()
	s := fsm.NewStore()
	index := uint64(0)
	do := func(c fsm.Command) { index++; apply(t, s, index, c) }
	for _, n := range []fsm.Node{{ID: "n1", Addr: "10.0.0.1", RaftAddr: "r1", APIAddr: "a1"}, {ID: "n2", Addr: "10.0.0.2", RaftAddr: "r2", APIAddr: "a2"}} {
		do(fsm.PutNode{Node: n})
	}
	do(fsm.PutService{Spec: fsm.Spec{Name: "acts", Image: "acts"}.WithDefaults()})
	for i, node := range []string{"n1", "n2", "n2"} {
		do(fsm.Place{Service: "acts", Number: i + 1, Node: node, Port: 8000 + i})
		do(fsm.Observe{Node: node, Service: "acts", Number: i + 1, Generation: 1, Phase: fsm.Running, LocalAddr: "172.17.0.9:8000"})
		row, _ := s.View().Container("acts", i+1)
		do(fsm.SetStatus{Row: row.Row(), Status: true})
	}
	row, _ := s.View().Container("acts", 3)
	do(fsm.Drain{Row: row.Row(), Deadline: 1})
	return s
}

func TestTableDialsOwnContainersDirectly(t *testing.T) {
	v := cluster(t).View()
	got := table(v, "n2")
	if got.Index != v.Applied || len(got.Services) != 1 {
		t.Fatalf("table %+v", got)
	}
	want := []proxy.Row{
		{Number: 1, Generation: 1, Node: "n1", Addr: "10.0.0.1:8000"},
		{Number: 2, Generation: 1, Node: "n2", Addr: "172.17.0.9:8000", Direct: true},
		{Number: 3, Generation: 1, Node: "n2", Addr: "172.17.0.9:8000", Direct: true, Draining: true},
	}
	rows := got.Services[0].Rows
	if len(rows) != len(want) {
		t.Fatalf("rows %+v, want %+v", rows, want)
	}
	for i := range want {
		if rows[i] != want[i] {
			t.Errorf("row %+v, want %+v", rows[i], want[i])
		}
	}
}

// TestTableInTheMiddleOfARollOut: rows of the build before are asked where they answer.
func TestTableInTheMiddleOfARollOut(t *testing.T) {
	s := cluster(t)
	spec := fsm.Spec{Name: "acts", Image: "acts", Health: fsm.Health{Path: "/new"}}.WithDefaults()
	apply(t, s, s.View().Applied+1, fsm.PutService{Spec: spec})
	got := table(s.View(), "n1").Services[0]
	if got.HealthPath != "/new" || got.Rows[0].HealthPath != "/api/v1/_health" {
		t.Errorf("asked at %q, row 1 at %q", got.HealthPath, got.Rows[0].HealthPath)
	}
}

func TestTurnsOfALifeAfterTheClockWentBack(t *testing.T) {
	s := cluster(t)
	index := s.View().Applied
	propose := func(_ context.Context, c fsm.Command) (any, error) {
		index++
		data, err := fsm.Encode(1, c)
		if err != nil {
			return nil, err
		}
		result := s.Apply(index, 1, data)
		if err, ok := result.(error); ok {
			return nil, err
		}
		return result, nil
	}
	now := time.Now()
	first := newTurns("n1", now, propose, s.View)
	if from, err := first.Take(t.Context(), proxy.TakeRequest{Service: "acts", Count: 5, Seq: 1}); err != nil || from != 0 {
		t.Fatalf("first run from %d: %v", from, err)
	}
	if from, err := first.Take(t.Context(), proxy.TakeRequest{Service: "acts", Count: 5, Seq: 1}); err != nil || from != 0 {
		t.Errorf("the same again from %d: %v", from, err)
	}
	reborn := newTurns("n1", now.Add(-time.Hour), propose, s.View)
	_, err := reborn.Take(t.Context(), proxy.TakeRequest{Service: "acts", Count: 5, Seq: 1})
	if !errors.Is(err, fsm.ErrStale) {
		t.Fatalf("an older epoch took turns: %v", err)
	}
	if from, err := reborn.Take(t.Context(), proxy.TakeRequest{Service: "acts", Count: 5, Seq: 1}); err != nil || from != 5 {
		t.Errorf("after the refusal, from %d: %v; want 5", from, err)
	}
}
