package fsm

import (
	"encoding/json"
	"fmt"
	"slices"
)

// containers is the part of a spec that a container is made from: what changes
// beyond it takes effect without a new one. A field that is added here by a later
// release belongs to the containers unless it is taken out below.
func (s Spec) containers() Spec {
	s.PortBase, s.Routes, s.Scale, s.Rollout = 0, nil, Scale{}, Rollout{}
	s.Health = Health{Path: s.Health.Path}
	s.Turn, s.Uncounted, s.ExposeInternal, s.DebugHeaders = "", nil, false, false
	s.MaxBody, s.Timeout, s.Drain, s.Grace = 0, 0, 0, 0
	return s
}

// SameContainers says whether a and b ask for the same containers.
func SameContainers(a, b Spec) bool { return sameSpec(a.containers(), b.containers()) }

// revision is what c makes of a service whose newest revision is last.
func (c PutService) revision(last Revision) Revision {
	r := Revision{Number: last.Number + 1, Build: last.Build, Spec: c.Spec, By: clip(c.By), Why: clip(c.Why), Restart: clip(c.Restart), ImageID: clip(c.ImageID)}
	if r.ImageID == "" && last.Spec.Image == c.Spec.Image {
		r.ImageID = last.ImageID
	}
	if last.Number == 0 || c.Restart != "" || !SameContainers(last.Spec, c.Spec) || last.Retagged(c.Spec, c.ImageID) {
		r.Build = r.Number
	}
	return r
}

// Retagged says whether the image of s, by the name that it has in r too, is another
// one by now.
func (r Revision) Retagged(s Spec, imageID string) bool {
	return r.Spec.Image == s.Image && r.ImageID != "" && imageID != "" && r.ImageID != clip(imageID)
}

func (sv Service) restarted(id string) bool {
	return slices.ContainsFunc(sv.Revisions, func(r Revision) bool { return r.Restart == clip(id) })
}

// revise makes r the newest revision of s, and forgets those that are too many.
func (d *draft) revise(s *Service, r Revision) {
	r.At, r.Outcome = d.Stamp, Rolling
	s.Revisions = slices.Clone(s.Revisions)
	if n := len(s.Revisions); n > 0 && s.Revisions[n-1].Outcome == Rolling {
		old := &s.Revisions[n-1]
		old.Outcome, old.Ended, old.Reason = Replaced, d.Stamp, fmt.Sprintf("by revision %d", r.Number)
	}
	s.Revisions = append(s.Revisions, r)
	s.Spec = r.Spec
	if s.Manual != 0 {
		s.Manual = min(max(s.Manual, s.Spec.Scale.Min), s.Spec.Scale.Max)
	}
	for i := 0; i < len(s.Revisions)-1 && len(s.Revisions) > MaxRevisions; {
		if d.needed(s, i) {
			i++
			continue
		}
		s.Revisions = slices.Delete(s.Revisions, i, i+1)
	}
}

// needed says whether revision i is the last one to tell what a row runs, or the
// newest that is good.
func (d *draft) needed(s *Service, i int) bool {
	r := s.Revisions[i]
	later := s.Revisions[i+1:]
	if r.Outcome == Good && !slices.ContainsFunc(later, func(o Revision) bool { return o.Outcome == Good }) {
		return true
	}
	if slices.ContainsFunc(later, func(o Revision) bool { return o.Build == r.Build }) {
		return false
	}
	return slices.ContainsFunc(d.Containers, func(c Container) bool { return c.Service == s.Name && c.Build == r.Build })
}

func (c RollBack) apply(d *draft) (any, error) {
	s, err := d.service(c.Service)
	if err != nil {
		return nil, err
	}
	newest := s.Newest()
	switch {
	case s.Removing:
		return nil, fmt.Errorf("%w: %q is to be removed", ErrNoSuchService, c.Service)
	case newest.Number != c.Left:
		return nil, fmt.Errorf("%w: service %s is at revision %d, not %d", ErrStale, c.Service, newest.Number, c.Left)
	}
	i := slices.IndexFunc(s.Revisions, func(r Revision) bool { return r.Number == c.To })
	if i < 0 || c.To == c.Left {
		return nil, fmt.Errorf("%w: revision %d of service %s, which is at %d: choose another of `orchctl history %s`", ErrOutOfRange, c.To, c.Service, c.Left, c.Service)
	}
	to := s.Revisions[i]
	if c.Failed {
		s.Revisions = slices.Clone(s.Revisions)
		last := &s.Revisions[len(s.Revisions)-1]
		last.Outcome, last.Reason, last.Ended = Failed, clip(c.Reason), d.Stamp
	}
	s.Index = d.index
	d.revise(s, Revision{Number: newest.Number + 1, Build: to.Build, Spec: to.Spec, ImageID: to.ImageID, By: clip(c.By), Why: clip(c.Reason), From: c.To})
	d.event("rolled-back", c.Service, 0, "", fmt.Sprintf("from revision %d to %d: %s", c.Left, c.To, c.Reason))
	return nil, nil
}

func (c EndRollout) apply(d *draft) (any, error) {
	if c.Outcome != Good && c.Outcome != Failed {
		return nil, fmt.Errorf("%w: outcome %q", ErrOutOfRange, c.Outcome)
	}
	s, err := d.service(c.Service)
	if err != nil {
		return nil, err
	}
	last := s.Newest()
	switch {
	case last.Number != c.Revision:
		return nil, fmt.Errorf("%w: service %s is at revision %d, not %d", ErrStale, c.Service, last.Number, c.Revision)
	case last.Outcome == c.Outcome:
		return nil, nil
	case last.Outcome == Good:
		return nil, fmt.Errorf("%w: revision %d of %s is good", ErrStale, c.Revision, c.Service)
	}
	s.Revisions = slices.Clone(s.Revisions)
	r := &s.Revisions[len(s.Revisions)-1]
	r.Outcome, r.Reason, r.Ended = c.Outcome, clip(c.Reason), d.Stamp
	s.Index = d.index
	kind := "rolled-out"
	if c.Outcome == Failed {
		kind = "roll-out-failed"
	}
	d.event(kind, c.Service, 0, "", fmt.Sprintf("revision %d: %s", c.Revision, c.Reason))
	return nil, nil
}

func (c Renew) apply(d *draft) (any, error) {
	r, err := d.row(c.Row)
	if err != nil {
		return nil, err
	}
	if r.Desired != Running {
		return nil, fmt.Errorf("%w: %s/%d is to be %s", ErrStale, r.Service, r.Number, r.Desired)
	}
	sv, ok := d.Service(r.Service)
	if !ok || sv.Removing {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchService, r.Service)
	}
	if newest := sv.Newest().Build; newest != c.Build {
		return nil, fmt.Errorf("%w: service %s is at build %d, not %d", ErrStale, r.Service, newest, c.Build)
	}
	if err := d.placeable(c.Node, r.Port, r); err != nil {
		return nil, err
	}
	r.Desired, r.DrainDeadline, r.NextNode, r.Reason = Draining, c.Deadline, c.Node, clip(c.Reason)
	d.event("renewing", r.Service, r.Number, r.Node, c.Reason)
	return nil, nil
}

// ended is the end of a row that was to stop: it begins anew where that was ordered,
// with what is the newest build by now, or goes.
func (d *draft) ended(r *Container) {
	sv, ok := d.Service(r.Service)
	if r.NextNode == "" || !ok || sv.Removing {
		d.drop(*r)
		return
	}
	node := r.Node
	if n, ok := d.Node(r.NextNode); ok && !n.Status.gone() {
		node = n.ID
	}
	newest := sv.Newest()
	d.status(r, false)
	r.Build, r.Image, r.ImageID = newest.Build, sv.Spec.Image, newest.ImageID
	r.Began, r.Proven, r.Failures = d.Stamp, false, 0
	why := fmt.Sprintf("revision %d", newest.Number)
	if node != r.Node {
		why = "moved from node " + r.Node
	}
	d.begin(r, node, why)
	d.event("renewed", r.Service, r.Number, r.Node, fmt.Sprintf("port %d generation %d: %s", r.Port, r.Generation, r.Reason))
}

func (c DrainNode) apply(d *draft) (any, error) {
	i, ok := findNode(d.Nodes, c.ID)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchNode, c.ID)
	}
	if c.Deadline != 0 && d.Nodes[i].Status == NodeLeft {
		return nil, fmt.Errorf("%w: %s has left", ErrNodeDown, c.ID)
	}
	if d.Nodes[i].DrainDeadline == c.Deadline {
		return nil, nil
	}
	d.Nodes = slices.Clone(d.Nodes)
	d.Nodes[i].DrainDeadline, d.Nodes[i].Index = c.Deadline, d.index
	if c.Deadline == 0 {
		d.event("node-undrained", "", 0, c.ID, "")
		return nil, nil
	}
	d.event("node-drained", "", 0, c.ID, "")
	return nil, nil
}

// sameSpec compares what a snapshot keeps: an empty list and none at all are one.
// Else a node that was restored would answer otherwise than one that was not.
func sameSpec(a, b Spec) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
