package fsm

import (
	"fmt"
	"slices"
)

// PutService does not validate the spec: the rules of validation may change
// between releases, the meaning of a log may not. Proposers validate.
func (c PutService) apply(d *draft) (any, error) {
	if c.Spec.Name == "" {
		return nil, fmt.Errorf("%w: a service needs a name", ErrOutOfRange)
	}
	i, ok := findService(d.Services, c.Spec.Name)
	if !ok {
		s := Service{Name: c.Spec.Name, Index: d.index, Turn: d.TurnFloor}
		d.revise(&s, c.revision(Revision{}))
		d.Services = slices.Insert(slices.Clone(d.Services), i, s)
		d.event("service-added", s.Name, 0, "", s.Spec.Image)
		return nil, nil
	}
	old := d.Services[i]
	same := sameSpec(old.Spec, c.Spec) && !old.Newest().Retagged(c.Spec, c.ImageID) && (c.Restart == "" || old.restarted(c.Restart))
	if !old.Removing && same {
		return nil, nil
	}
	if c.Seen != 0 && old.Index > c.Seen {
		return nil, fmt.Errorf("%w: service %s", ErrStale, old.Name)
	}
	if newest := old.Newest().Number; c.Base != 0 && c.Base != newest {
		return nil, fmt.Errorf("%w: service %s is at revision %d; the change was made from %d", ErrStale, old.Name, newest, c.Base)
	}
	d.Services = slices.Clone(d.Services)
	s := &d.Services[i]
	s.Index, s.Removing = d.index, false
	if !same {
		d.revise(s, c.revision(old.Newest()))
	}
	d.event("service-changed", s.Name, 0, "", fmt.Sprintf("revision %d: %s", s.Newest().Number, s.Spec.Image))
	return nil, nil
}

func (c RemoveService) apply(d *draft) (any, error) {
	s, err := d.service(c.Name)
	if err != nil || s.Removing {
		return nil, err
	}
	s.Removing, s.Index = true, d.index
	d.event("service-removing", c.Name, 0, "", "")
	d.dropIfGone(c.Name)
	return nil, nil
}

func (c ScaleByHand) apply(d *draft) (any, error) {
	s, err := d.service(c.Service)
	if err != nil {
		return nil, err
	}
	sc := s.Spec.Scale
	if c.Count != 0 && (c.Count < sc.Min || c.Count > sc.Max) {
		return nil, fmt.Errorf("%w: %d containers; the spec of %s allows %d to %d: choose a number between them, or change scale.min or scale.max and apply it", ErrOutOfRange, c.Count, c.Service, sc.Min, sc.Max)
	}
	if s.Manual == c.Count {
		return nil, nil
	}
	s.Manual, s.Index = c.Count, d.index
	if c.Count == 0 {
		d.event("scale-auto", c.Service, 0, "", "")
		return nil, nil
	}
	d.event("scale-by-hand", c.Service, 0, "", fmt.Sprintf("%d containers", c.Count))
	return nil, nil
}

func (c Decide) apply(d *draft) (any, error) {
	s, err := d.service(c.Service)
	if err != nil {
		return nil, err
	}
	if s.Index > c.Seen {
		return nil, fmt.Errorf("%w: service %s", ErrStale, c.Service)
	}
	if c.Decision.Desired < 0 {
		return nil, fmt.Errorf("%w: %d containers", ErrOutOfRange, c.Decision.Desired)
	}
	s.Decision, s.Index = c.Decision, d.index
	s.Decision.Reason = clip(s.Decision.Reason)
	d.event("scaled", c.Service, 0, "", s.Decision.Reason)
	return nil, nil
}
