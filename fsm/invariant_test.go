package fsm

import (
	"slices"
	"strings"
	"testing"
)

// TestCheckFinds each way in which a state can be broken, by name.
func TestCheckFinds(t *testing.T) {
	good := must(t, table(t), TakeTurns{Service: "acts", Node: "n1", Epoch: 1, Seq: 1, Count: 10, Served: 1})
	good = must(t, good, TakeTurns{Service: "acts", Node: "n2", Epoch: 1, Seq: 1, Count: 10})
	if err := Check(good); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*State){
		"services: entry 1":     func(s *State) { s.Services = append(s.Services, Service{Name: "abc"}) },
		"nodes: entry 1":        func(s *State) { slices.Reverse(s.Nodes) },
		"containers: entry 1":   func(s *State) { s.Containers[1].Number = 1 },
		"leases: entry 1":       func(s *State) { slices.Reverse(s.Leases) },
		"share port 8000":       func(s *State) { s.Containers[1].Port = 8000 },
		"has no service":        func(s *State) { s.Containers[0].Service = "abc" },
		"which is not in the":   func(s *State) { s.Containers[0].Node = "n9" },
		"has generation 0":      func(s *State) { s.Containers[0].Generation = 0 },
		`is desired "starting"`: func(s *State) { s.Containers[0].Desired = Starting },
		`is observed "draining"`: func(s *State) {
			s.Containers[0].Observed = Draining
		},
		"healthy but starting":      func(s *State) { s.Containers[0].Status, s.Containers[0].Observed = true, Starting },
		"to begin anew on n2":       func(s *State) { s.Containers[0].NextNode = "n2" },
		"revision 1 of build 2":     func(s *State) { s.Services[0].Revisions[0].Build = 2 },
		"another spec than its rev": func(s *State) { s.Services[0].Spec.Image = "odd" },
		"is of build 7, which":      func(s *State) { s.Containers[1].Build = 7 },
		"touched at 99":             func(s *State) { s.Containers[0].Index = 99 },
		"was made at 50":            func(s *State) { s.Containers[0].Created = 50 },
		"on n1 has no service":      func(s *State) { s.Leases[0].Service = "abc" },
		"issued are 10":             func(s *State) { s.Services[0].Turn = 10 },
		"hold the same turns":       func(s *State) { s.Leases[1].From = 5 },
		"buckets of acts are not":   func(s *State) { s.Services[0].Buckets = []Bucket{{5, 1}, {5, 1}} },
		"1001 events":               func(s *State) { s.Events = make([]Event, MaxEvents+1) },
		"older than the one befor":  func(s *State) { s.Events[0].Index = 9 },
	} {
		s := *good
		s.Services, s.Nodes, s.Leases = slices.Clone(s.Services), slices.Clone(s.Nodes), slices.Clone(s.Leases)
		s.Containers, s.Events = slices.Clone(s.Containers), slices.Clone(s.Events)
		for i := range s.Services {
			s.Services[i].Revisions = slices.Clone(s.Services[i].Revisions)
		}
		spoil(&s)
		if err := Check(&s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
