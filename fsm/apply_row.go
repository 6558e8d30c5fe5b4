package fsm

import (
	"fmt"
	"slices"
)

// placeable says whether a row may be put on node and port; except is the row
// that may hold the port already.
func (d *draft) placeable(node string, port int, except *Container) error {
	n, ok := d.Node(node)
	if !ok {
		return fmt.Errorf("%w: %q", ErrNoSuchNode, node)
	}
	if n.Status.gone() {
		return fmt.Errorf("%w: %s is %s", ErrNodeDown, node, n.Status)
	}
	if port < 1 || port > MaxPort {
		return fmt.Errorf("%w: port %d", ErrOutOfRange, port)
	}
	for _, o := range d.Containers {
		same := except != nil && o.Service == except.Service && o.Number == except.Number
		if o.Port == port && !same {
			return fmt.Errorf("%w: %d by %s/%d", ErrPortInUse, port, o.Service, o.Number)
		}
	}
	return nil
}

func (c Place) apply(d *draft) (any, error) {
	si, ok := findService(d.Services, c.Service)
	if !ok || d.Services[si].Removing {
		return nil, fmt.Errorf("%w: %q", ErrNoSuchService, c.Service)
	}
	i, ok := findContainer(d.Containers, c.Service, c.Number)
	if ok {
		return nil, fmt.Errorf("%w: %s/%d", ErrExists, c.Service, c.Number)
	}
	if c.Number < 1 {
		return nil, fmt.Errorf("%w: container number %d", ErrOutOfRange, c.Number)
	}
	if err := d.placeable(c.Node, c.Port, nil); err != nil {
		return nil, err
	}
	s := d.Services[si]
	row := Container{
		Service: c.Service, Number: c.Number, Generation: 1, Node: c.Node, Port: c.Port,
		Desired: Running, Observed: Pending, Build: s.Newest().Build, Image: s.Spec.Image, ImageID: s.Newest().ImageID,
		Reason: clip(c.Reason), Since: d.Stamp, Began: d.Stamp, StandIn: c.StandIn, Created: d.index, Index: d.index,
	}
	d.Containers = slices.Insert(slices.Clone(d.Containers), i, row)
	d.event("placed", c.Service, c.Number, c.Node, fmt.Sprintf("port %d: %s", c.Port, c.Reason))
	return nil, nil
}

func (c SetStatus) apply(d *draft) (any, error) {
	r, err := d.row(c.Row)
	if err != nil {
		return nil, err
	}
	if c.Status && r.Observed != Running {
		return nil, fmt.Errorf("%w: %s/%d is %s, not running", ErrStale, r.Service, r.Number, r.Observed)
	}
	r.Reason = clip(c.Reason)
	if r.Status == c.Status {
		return nil, nil
	}
	d.status(r, c.Status)
	r.Proven = r.Proven || c.Status
	kind := "unhealthy"
	if c.Status {
		kind = "healthy"
	}
	d.event(kind, r.Service, r.Number, r.Node, c.Reason)
	return nil, nil
}

// status turns Status over; failures before a stable time are forgotten.
func (d *draft) status(r *Container, healthy bool) {
	if r.Status && d.Stamp-r.Since >= StableAfter {
		r.Failures = 0
	}
	r.Status, r.Since = healthy, d.Stamp
}

func (c Relaunch) apply(d *draft) (any, error) {
	r, err := d.row(c.Row)
	if err != nil {
		return nil, err
	}
	if r.Desired != Running {
		return nil, fmt.Errorf("%w: %s/%d is to be %s", ErrStale, r.Service, r.Number, r.Desired)
	}
	if err := d.placeable(c.Node, c.Port, r); err != nil {
		return nil, err
	}
	d.status(r, false)
	if r.Node != c.Node { // what the other node did is not held against the build
		r.Began = d.Stamp
	}
	r.Port, r.Failures = c.Port, c.Failures
	d.begin(r, c.Node, c.Reason)
	d.event("relaunched", r.Service, r.Number, r.Node, fmt.Sprintf("port %d generation %d: %s", r.Port, r.Generation, c.Reason))
	return nil, nil
}

// begin starts the next generation of a row, of the build that the row has.
func (d *draft) begin(r *Container, node, reason string) {
	r.Generation++
	r.Node, r.Desired, r.Observed, r.LocalAddr = node, Running, Pending, ""
	r.PortTaken, r.RetryAt, r.Reason, r.Since = false, 0, clip(reason), d.Stamp
	r.DrainDeadline, r.NextNode = 0, ""
}

func (c BackOff) apply(d *draft) (any, error) {
	r, err := d.row(c.Row)
	if err != nil {
		return nil, err
	}
	if r.Status {
		d.status(r, false)
	}
	r.RetryAt, r.Failures, r.Reason = c.RetryAt, c.Failures, clip(c.Reason)
	d.event("back-off", r.Service, r.Number, r.Node, c.Reason)
	return nil, nil
}

func (c Drain) apply(d *draft) (any, error) {
	r, err := d.row(c.Row)
	if err != nil {
		return nil, err
	}
	if r.Desired != Running {
		return nil, fmt.Errorf("%w: %s/%d is to be %s", ErrStale, r.Service, r.Number, r.Desired)
	}
	r.Desired, r.DrainDeadline, r.Reason = Draining, c.Deadline, clip(c.Reason)
	d.event("draining", r.Service, r.Number, r.Node, c.Reason)
	return nil, nil
}

func (c Stop) apply(d *draft) (any, error) {
	r, err := d.row(c.Row)
	if err != nil {
		return nil, err
	}
	if r.Desired == Stopped {
		return nil, fmt.Errorf("%w: %s/%d is to be stopped already", ErrStale, r.Service, r.Number)
	}
	r.Desired, r.Reason = Stopped, clip(c.Reason)
	d.status(r, false)
	d.event("stopping", r.Service, r.Number, r.Node, c.Reason)
	if r.Observed == Stopped {
		d.event("stopped", r.Service, r.Number, r.Node, "it had ended before")
		d.ended(r)
	}
	return nil, nil
}

func (c Forget) apply(d *draft) (any, error) {
	r, err := d.row(c.Row)
	if err != nil {
		return nil, err
	}
	if r.Desired == Running {
		return nil, fmt.Errorf("%w: %s/%d is to be running", ErrStale, r.Service, r.Number)
	}
	d.event("forgotten", r.Service, r.Number, r.Node, c.Reason)
	d.ended(r)
	return nil, nil
}

func (c Observe) apply(d *draft) (any, error) {
	if c.Phase.rank() < 0 || c.Phase == Draining {
		return nil, fmt.Errorf("%w: observed phase %q", ErrOutOfRange, c.Phase)
	}
	i, ok := findContainer(d.Containers, c.Service, c.Number)
	if !ok {
		return nil, fmt.Errorf("%w: %s/%d", ErrNoSuchRow, c.Service, c.Number)
	}
	have := d.Containers[i]
	if c.Created != 0 && have.Created != c.Created {
		return nil, fmt.Errorf("%w: %s/%d was placed at index %d; seen was the one of %d", ErrStale, c.Service, c.Number, have.Created, c.Created)
	}
	if have.Generation != c.Generation || have.Node != c.Node || c.Phase.rank() < have.Observed.rank() {
		return nil, fmt.Errorf("%w: %s/%d is at generation %d, %s on %s", ErrStale, c.Service, c.Number, have.Generation, have.Observed, have.Node)
	}
	next := have
	next.Observed, next.LocalAddr, next.PortTaken = c.Phase, c.LocalAddr, c.PortTaken
	if c.Reason != "" {
		next.Reason = clip(c.Reason)
	}
	if next == have {
		return nil, nil
	}
	if c.Phase == Running && have.Observed != Running && !have.Status {
		next.Since, next.RetryAt = d.Stamp, 0 // what an engine needs to begin is not held against the container
	}
	r := d.touch(i)
	next.Index = r.Index
	*r = next
	if c.PortTaken && !have.PortTaken {
		d.event("port-taken", r.Service, r.Number, r.Node, c.Reason)
	}
	if c.Phase != Stopped || have.Observed == Stopped {
		return nil, nil
	}
	if r.Status {
		d.status(r, false)
	}
	if r.Desired != Running {
		d.event("stopped", r.Service, r.Number, r.Node, c.Reason)
		d.ended(r)
		return nil, nil
	}
	d.event("died", r.Service, r.Number, r.Node, c.Reason)
	return nil, nil
}
