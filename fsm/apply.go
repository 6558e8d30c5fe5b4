package fsm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Refusals: the closed set of answers of a command that changed nothing. They
// are definite: the command was applied and refused, on every node alike.
var (
	ErrStale         = errors.New("stale: the state has changed since it was looked at")
	ErrNoSuchService = errors.New("no such service")
	ErrNoSuchRow     = errors.New("no such container")
	ErrNoSuchNode    = errors.New("no such node")
	ErrExists        = errors.New("exists already")
	ErrPortInUse     = errors.New("port in use")
	ErrAddrInUse     = errors.New("address in use by another node")
	ErrNodeInUse     = errors.New("node still has containers")
	ErrNodeDown      = errors.New("node is not alive")
	ErrOutOfRange    = errors.New("out of range")
	ErrForeign       = errors.New("belongs to another cluster")
	ErrRefused       = errors.New("not let in")
	ErrNoSuchPerson  = errors.New("no such person")
)

// StableAfter is how long (ms) a container must have been healthy for its
// earlier failures to be forgotten: ten probes in a row.
const StableAfter = 10_000

// draft is the next state while a command is being applied. Its slices are
// shared with the old state until a copy is taken by the methods below.
type draft struct {
	State
	index uint64
	by    string // who asked for the command
}

// Apply returns the state after command c, proposed at stamp (ms) and committed
// at index in term. The old state is left as it was. The result is a value or a
// refusal; a refused command changes nothing but Applied, Term and Stamp.
func Apply(s *State, index, term uint64, stamp int64, c Command) (*State, any, error) {
	d := &draft{State: *s, index: index}
	d.Applied, d.Term, d.Stamp = index, term, max(s.Stamp, stamp)
	d.by = clip(Author(c))
	result, err := c.apply(d)
	if err != nil {
		d.State = *s
		d.Applied, d.Term, d.Stamp = index, term, max(s.Stamp, stamp)
		return &d.State, nil, err
	}
	return &d.State, result, nil
}

func (d *draft) event(kind, service string, number int, node, reason string) {
	d.events(Event{Kind: kind, Service: service, Number: number, Node: node, Reason: clip(reason)})
}

func (d *draft) events(e Event) {
	d.Changed = d.index
	e.Index, e.At, e.By = d.index, d.Stamp, d.by
	old := d.Events
	if len(old) >= MaxEvents {
		old = old[len(old)-MaxEvents+1:]
	}
	d.Events = append(slices.Clip(old), e)
}

func clip(reason string) string {
	if len(reason) > MaxReason {
		return strings.ToValidUTF8(reason[:MaxReason], "")
	}
	return reason
}

func (d *draft) service(name string) (*Service, error) {
	i, ok := findService(d.Services, name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchService, name)
	}
	d.Services = slices.Clone(d.Services)
	return &d.Services[i], nil
}

// row returns a copy-on-write row that r may still change.
func (d *draft) row(r Row) (*Container, error) {
	i, ok := findContainer(d.Containers, r.Service, r.Number)
	if !ok {
		return nil, fmt.Errorf("%w: %s/%d", ErrNoSuchRow, r.Service, r.Number)
	}
	if have := d.Containers[i]; have.Generation != r.Generation || have.Index > r.Seen {
		return nil, fmt.Errorf("%w: %s/%d is at generation %d, index %d; seen was generation %d, index %d",
			ErrStale, r.Service, r.Number, have.Generation, have.Index, r.Generation, r.Seen)
	}
	return d.touch(i), nil
}

func (d *draft) touch(i int) *Container {
	d.Containers = slices.Clone(d.Containers)
	d.Changed = d.index
	d.Containers[i].Index = d.index
	return &d.Containers[i]
}

// drop removes a row, and its service with the last row of one that is to go.
func (d *draft) drop(c Container) {
	i, _ := findContainer(d.Containers, c.Service, c.Number)
	d.Containers = slices.Delete(slices.Clone(d.Containers), i, i+1)
	d.Changed = d.index
	d.dropIfGone(c.Service)
}

func (d *draft) dropIfGone(name string) {
	i, ok := findService(d.Services, name)
	if !ok || !d.Services[i].Removing || len(d.Rows(name)) > 0 {
		return
	}
	d.TurnFloor = max(d.TurnFloor, d.Services[i].Turn)
	d.Services = slices.Delete(slices.Clone(d.Services), i, i+1)
	d.Leases = slices.DeleteFunc(slices.Clone(d.Leases), func(l Lease) bool { return l.Service == name })
	d.event("service-removed", name, 0, "", "its last container has stopped")
}

func (c InitCluster) apply(d *draft) (any, error) {
	switch {
	case d.ClusterID == c.ClusterID:
		return nil, nil
	case d.ClusterID != "":
		return nil, fmt.Errorf("%w: this is cluster %s, not %s", ErrForeign, d.ClusterID, c.ClusterID)
	}
	d.ClusterID = c.ClusterID
	c.begin(d)
	d.event("cluster-made", "", 0, "", c.ClusterID)
	return nil, nil
}

func (c Note) apply(d *draft) (any, error) {
	if n := len(c.ID) + len(c.What) + len(c.Service) + len(c.Node); n > MaxReason {
		return nil, fmt.Errorf("%w: a note whose names are %d bytes long; at most %d", ErrOutOfRange, n, MaxReason)
	}
	if slices.ContainsFunc(d.Events, func(e Event) bool { return c.ID != "" && e.ID == c.ID }) {
		return nil, nil
	}
	d.events(Event{Kind: c.What, Service: c.Service, Number: c.Number, Node: c.Node, Reason: clip(c.Reason), ID: c.ID})
	return nil, nil
}

func (c TakeTurns) apply(d *draft) (any, error) {
	if c.Count > MaxTurnsPerTake {
		return nil, fmt.Errorf("%w: %d turns at once; at most %d", ErrOutOfRange, c.Count, MaxTurnsPerTake)
	}
	if _, ok := d.Node(c.Node); !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchNode, c.Node)
	}
	i, held := slices.BinarySearchFunc(d.Leases, c, func(l Lease, c TakeTurns) int {
		return cmp.Or(cmp.Compare(l.Service, c.Service), cmp.Compare(l.Node, c.Node))
	})
	if held {
		last := d.Leases[i]
		switch order := cmp.Or(cmp.Compare(c.Epoch, last.Epoch), cmp.Compare(c.Seq, last.Seq)); {
		case order < 0:
			return nil, fmt.Errorf("%w: turns for %s were taken at epoch %d seq %d; this is epoch %d seq %d",
				ErrStale, c.Node, last.Epoch, last.Seq, c.Epoch, c.Seq)
		case order == 0 && c.Count != last.Count:
			return nil, fmt.Errorf("%w: epoch %d seq %d of %s took %d turns; it cannot be repeated for %d", ErrStale, c.Epoch, c.Seq, c.Node, last.Count, c.Count)
		case order == 0:
			return last.From, nil
		}
	}
	s, err := d.service(c.Service)
	if err != nil {
		return nil, err
	}
	lease := Lease{Service: c.Service, Node: c.Node, Epoch: c.Epoch, Seq: c.Seq, From: s.Turn, Count: c.Count}
	d.Leases = slices.Clone(d.Leases)
	if held {
		d.Leases[i] = lease
	} else {
		d.Leases = slices.Insert(d.Leases, i, lease)
	}
	s.Turn += c.Count
	if c.Served > 0 {
		s.Buckets = count(s.Buckets, d.Stamp/1000, c.Served, s.Spec.Scale)
	}
	return lease.From, nil
}

// count adds n requests at second to a copy of the buckets and lets go of those
// that neither the window nor the cooldown can see any more.
func count(old []Bucket, second int64, n uint64, sc Scale) []Bucket {
	keep := int64(sc.Window+sc.Cooldown)/1e9 + 1
	b := make([]Bucket, 0, len(old)+1)
	for _, x := range old {
		if x.Second > second-keep {
			b = append(b, x)
		}
	}
	if k := len(b) - 1; k >= 0 && b[k].Second == second {
		b[k].Count += n
		return b
	}
	return append(b, Bucket{Second: second, Count: n})
}
