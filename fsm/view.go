package fsm

import (
	"cmp"
	"slices"
)

// The methods below read one immutable version of the state. They return copies
// or values, never something that writes through.

func findService(s []Service, name string) (int, bool) {
	return slices.BinarySearchFunc(s, name, func(s Service, n string) int { return cmp.Compare(s.Name, n) })
}

func findNode(s []Node, id string) (int, bool) {
	return slices.BinarySearchFunc(s, id, func(n Node, id string) int { return cmp.Compare(n.ID, id) })
}

func findContainer(s []Container, service string, number int) (int, bool) {
	return slices.BinarySearchFunc(s, number, func(c Container, n int) int {
		return cmp.Or(cmp.Compare(c.Service, service), cmp.Compare(c.Number, n))
	})
}

// Service returns the service of that name.
func (s *State) Service(name string) (Service, bool) {
	i, ok := findService(s.Services, name)
	if !ok {
		return Service{}, false
	}
	return s.Services[i], true
}

// Node returns the node with that ID.
func (s *State) Node(id string) (Node, bool) {
	i, ok := findNode(s.Nodes, id)
	if !ok {
		return Node{}, false
	}
	return s.Nodes[i], true
}

// Container returns the row of that service and number.
func (s *State) Container(service string, number int) (Container, bool) {
	i, ok := findContainer(s.Containers, service, number)
	if !ok {
		return Container{}, false
	}
	return s.Containers[i], true
}

// Rows returns the rows of a service, by number.
func (s *State) Rows(service string) []Container {
	return filter(s.Containers, func(c Container) bool { return c.Service == service })
}

// RowsOn returns the rows that a node owns, by service and number.
func (s *State) RowsOn(node string) []Container {
	return filter(s.Containers, func(c Container) bool { return c.Node == node })
}

// Rotation returns the rows of a service that get turns, in the order of their
// numbers: turn t goes to the (t mod n)-th of them.
func (s *State) Rotation(service string) []Container {
	return filter(s.Containers, func(c Container) bool { return c.Service == service && s.InRotation(c) })
}

// InRotation says whether a row gets turns: healthy, to be running, on a node
// that has not left. A dead daemon takes nothing out of rotation: containers
// outlive it, and Status says whether they answer.
func (s *State) InRotation(c Container) bool {
	n, ok := s.Node(c.Node)
	return ok && c.Status && c.Desired == Running && n.Status != NodeLeft
}

// TurnRow returns the row whose turn it is, and false where none is in rotation.
func (s *State) TurnRow(service string) (Container, bool) {
	sv, ok := s.Service(service)
	rows := s.Rotation(service)
	if !ok || len(rows) == 0 {
		return Container{}, false
	}
	return rows[sv.Turn%uint64(len(rows))], true
}

// Phase is the one word for a row: draining and stopping are the leader's will,
// everything else is what the node saw.
func (c Container) Phase() Phase {
	if c.Desired != Running && c.Observed != Stopped {
		return Draining
	}
	return c.Observed
}

// Newest is the last of a service's revisions: the one that it is to run.
func (sv Service) Newest() Revision {
	if len(sv.Revisions) == 0 {
		return Revision{}
	}
	return sv.Revisions[len(sv.Revisions)-1]
}

// LastGood is the newest revision whose roll-out went well, other than the one that
// the service is to run.
func (sv Service) LastGood() (Revision, bool) {
	for i := len(sv.Revisions) - 2; i >= 0; i-- {
		if sv.Revisions[i].Outcome == Good {
			return sv.Revisions[i], true
		}
	}
	return Revision{}, false
}

// Before is the newest revision that was good and has another spec than the service
// is to have now: what it goes back to by hand.
func (sv Service) Before() (Revision, bool) {
	for i := len(sv.Revisions) - 2; i >= 0; i-- {
		if r := sv.Revisions[i]; r.Outcome == Good && (r.Build != sv.Newest().Build || !sameSpec(r.Spec, sv.Spec)) {
			return r, true
		}
	}
	return Revision{}, false
}

// SpecOf is the spec that row's generation is made from.
func (sv Service) SpecOf(row Container) Spec {
	for i := len(sv.Revisions) - 1; i >= 0; i-- {
		if sv.Revisions[i].Build == row.Build {
			return sv.Revisions[i].Spec
		}
	}
	return sv.Spec
}

// Leaving says whether a node shall have no containers: it drains, or is to leave.
func (n Node) Leaving() bool { return n.ToldToLeave() || n.DrainDeadline != 0 }

// ToldToLeave says whether a node is on its way out of the cluster, dead or not.
func (n Node) ToldToLeave() bool { return n.Status == NodeDraining || n.Leaves }

// Keeping returns n, as a node tells of itself, with the columns of old that are not its
// own to tell.
func (n Node) Keeping(old Node) Node {
	n.Status, n.Reason, n.Since, n.Index = old.Status, old.Reason, old.Since, old.Index
	n.DrainDeadline, n.Leaves = old.DrainDeadline, old.Leaves
	return n
}

// Holders are the nodes besides n that have an address of n and are not gone.
func (s *State) Holders(n Node) []Node {
	return filter(s.Nodes, func(o Node) bool {
		return o.ID != n.ID && (o.RaftAddr == n.RaftAddr || o.APIAddr == n.APIAddr) && !o.Status.gone()
	})
}

// Row names this version of c for a command that is born from it.
func (c Container) Row() Row {
	return Row{Service: c.Service, Number: c.Number, Generation: c.Generation, Seen: c.Index}
}

// Requests is the number of requests counted within window (ms) up to now (ms),
// in whole seconds.
func (sv Service) Requests(now, window int64) uint64 {
	var n uint64
	from := now/1000 - window/1000
	for _, b := range sv.Buckets {
		if b.Second > from && b.Second <= now/1000 {
			n += b.Count
		}
	}
	return n
}

// Lease returns the last run of turns that node took of service.
func (s *State) Lease(service, node string) (Lease, bool) {
	for _, l := range s.Leases {
		if l.Service == service && l.Node == node {
			return l, true
		}
	}
	return Lease{}, false
}

func filter[T any](in []T, keep func(T) bool) []T {
	var out []T
	for _, x := range in {
		if keep(x) {
			out = append(out, x)
		}
	}
	return out
}
