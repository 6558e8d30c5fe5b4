package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

// Check returns the first invariant that s breaks, or nil. Tests call it after
// every apply, Restore before it accepts a snapshot.
func Check(s *State) error {
	for _, check := range []func(*State) error{checkOrder, checkRows, checkRevisions, checkTurns, checkEvents, checkTrust} {
		if err := check(s); err != nil {
			return fmt.Errorf("invariant broken at index %d: %w", s.Applied, err)
		}
	}
	return nil
}

// checkOrder: every list is sorted and no key stands twice.
func checkOrder(s *State) error {
	rising := func(what string, n int, order func(i int) int) error {
		for i := 1; i < n; i++ {
			if order(i) >= 0 {
				return fmt.Errorf("%s: entry %d is not after entry %d", what, i, i-1)
			}
		}
		return nil
	}
	c, l, v, n := s.Containers, s.Leases, s.Services, s.Nodes
	return cmp.Or(
		rising("services", len(v), func(i int) int { return cmp.Compare(v[i-1].Name, v[i].Name) }),
		rising("nodes", len(n), func(i int) int { return cmp.Compare(n[i-1].ID, n[i].ID) }),
		rising("containers", len(c), func(i int) int {
			return cmp.Or(cmp.Compare(c[i-1].Service, c[i].Service), cmp.Compare(c[i-1].Number, c[i].Number))
		}),
		rising("leases", len(l), func(i int) int {
			return cmp.Or(cmp.Compare(l[i-1].Service, l[i].Service), cmp.Compare(l[i-1].Node, l[i].Node))
		}),
	)
}

// checkRows: each row has its service, its node and a port of its own, and its
// columns agree.
func checkRows(s *State) error {
	ports := map[int]string{}
	for _, c := range s.Containers {
		name := fmt.Sprintf("%s/%d", c.Service, c.Number)
		if other, taken := ports[c.Port]; taken {
			return fmt.Errorf("%s and %s share port %d", other, name, c.Port)
		}
		ports[c.Port] = name
		_, hasService := s.Service(c.Service)
		_, hasNode := s.Node(c.Node)
		switch {
		case !hasService:
			return fmt.Errorf("%s has no service", name)
		case !hasNode:
			return fmt.Errorf("%s is on node %q, which is not in the table", name, c.Node)
		case c.Number < 1 || c.Generation < 1:
			return fmt.Errorf("%s has generation %d", name, c.Generation)
		case !slices.Contains([]Phase{Running, Draining, Stopped}, c.Desired):
			return fmt.Errorf("%s is desired %q", name, c.Desired)
		case !slices.Contains([]Phase{Pending, Starting, Running, Stopped}, c.Observed):
			return fmt.Errorf("%s is observed %q", name, c.Observed)
		case c.Status && c.Observed != Running:
			return fmt.Errorf("%s is healthy but %s", name, c.Observed)
		case c.NextNode != "" && c.Desired == Running:
			return fmt.Errorf("%s is to run, and to begin anew on %s", name, c.NextNode)
		case c.Index > s.Applied || c.Created > c.Index:
			return fmt.Errorf("%s was made at %d, touched at %d", name, c.Created, c.Index)
		}
	}
	return nil
}

// checkRevisions: they stand in order, the newest has the service's spec, and what
// each row runs can be told.
func checkRevisions(s *State) error {
	for _, sv := range s.Services {
		builds := map[uint64]bool{}
		last := uint64(0)
		for _, r := range sv.Revisions {
			if r.Number <= last || r.Build < 1 || r.Build > r.Number {
				return fmt.Errorf("%s: revision %d of build %d comes after %d", sv.Name, r.Number, r.Build, last)
			}
			last, builds[r.Build] = r.Number, true
		}
		if !sameSpec(sv.Newest().Spec, sv.Spec) {
			return fmt.Errorf("%s has another spec than its revision %d", sv.Name, last)
		}
		for _, c := range s.Rows(sv.Name) {
			if !builds[c.Build] {
				return fmt.Errorf("%s/%d is of build %d, which no revision tells of", c.Service, c.Number, c.Build)
			}
		}
	}
	return nil
}

// checkTurns: no node holds a turn that was not issued, no two hold the same.
func checkTurns(s *State) error {
	for i, l := range s.Leases {
		sv, ok := s.Service(l.Service)
		if !ok {
			return fmt.Errorf("lease of %s on %s has no service", l.Service, l.Node)
		}
		if l.From+l.Count > sv.Turn {
			return fmt.Errorf("lease of %s on %s ends at %d, issued are %d", l.Service, l.Node, l.From+l.Count, sv.Turn)
		}
		for _, o := range s.Leases[:i] {
			if o.Service == l.Service && o.From < l.From+l.Count && l.From < o.From+o.Count {
				return fmt.Errorf("nodes %s and %s hold the same turns of %s", o.Node, l.Node, l.Service)
			}
		}
	}
	for _, sv := range s.Services {
		for i := 1; i < len(sv.Buckets); i++ {
			if sv.Buckets[i-1].Second >= sv.Buckets[i].Second {
				return fmt.Errorf("buckets of %s are not in order", sv.Name)
			}
		}
	}
	return nil
}

// checkEvents: the ring is bounded and in order.
func checkEvents(s *State) error {
	if len(s.Events) > MaxEvents {
		return fmt.Errorf("%d events", len(s.Events))
	}
	for i := 1; i < len(s.Events); i++ {
		if s.Events[i-1].Index > s.Events[i].Index {
			return fmt.Errorf("event %d is older than the one before", i)
		}
	}
	return nil
}
