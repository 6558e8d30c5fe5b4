package control

import (
	"fmt"
	"strings"
	"time"

	"orch/fsm"
)

// Back-off of a container that keeps dying: none at first, then 1 s doubled up to
// a minute, less up to a quarter by chance so that many do not come back together.
const (
	firstDelay = time.Second
	lastDelay  = time.Minute
	chance     = 0.25
)

// backOffMark stands between a failure and what the back-off adds to it.
const backOffMark = "; relaunches so far: "

// delay before the relaunch of a container that has been relaunched so often.
func delay(failures int, jitter float64) time.Duration {
	if failures <= 0 {
		return 0
	}
	d := lastDelay
	if failures < 7 {
		d = min(lastDelay, firstDelay<<(failures-1))
	}
	return d - time.Duration(float64(d)*chance*jitter)
}

// planHealth turns observations into verdicts and relaunches. Rows that this term
// has not probed itself are left alone, unless their own node reports their end.
func planHealth(v *fsm.State, seen map[rowKey]observation, now int64, jitter float64) []Action {
	h := healing{v: v, now: now, jitter: jitter}
	for _, row := range v.Containers {
		sv, ok := v.Service(row.Service)
		if !ok || row.Desired != fsm.Running || sv.Removing {
			continue
		}
		n, _ := v.Node(row.Node)
		switch o := seen[keyOf(row)]; {
		case n.Status == fsm.NodeDead || n.Status == fsm.NodeLeft:
			h.lost(row, sv, o, n.Status)
		case row.Observed == fsm.Stopped && n.Leaving():
			// It begins anew elsewhere; see planRows.
		case row.Observed == fsm.Stopped || row.PortTaken:
			h.ended(row, sv)
		case row.Observed == fsm.Running:
			h.running(row, sv, o, n.Leaving())
		default:
			h.launching(row, sv)
		}
	}
	return bounded(h.plan)
}

// healing is one pass of planHealth.
type healing struct {
	v      *fsm.State
	placed *placing // nil until a row needs another place
	now    int64
	jitter float64
	plan   []Action
}

func (h *healing) placing() *placing {
	if h.placed == nil {
		h.placed = newPlacing(h.v)
	}
	return h.placed
}

// lost: the row's node is dead. What still answers there goes on; what does not is
// made elsewhere. Its node's death is the second opinion. A node that was removed gets no
// requests, so that what is on it is made elsewhere whether it answers or not.
func (h *healing) lost(row fsm.Container, sv fsm.Service, o observation, status fsm.NodeStatus) {
	if row.Observed == fsm.Running && status != fsm.NodeLeft {
		if o.Probed && o.Healthy && !row.Status {
			h.status(row, true, "healthy")
		}
		if !o.Probed || o.Healthy || o.Held || o.Failures < sv.Spec.Health.Failures {
			return
		}
	}
	if row.RetryAt > max(h.now, row.Since) {
		return
	}
	if node, ok := h.placing().node(""); ok {
		h.relaunch(row, node, row.Port, row.Failures, "node "+row.Node+" is lost")
	}
}

// ended: its own node says that it has stopped, or could not be started.
func (h *healing) ended(row fsm.Container, sv fsm.Service) {
	if !row.PortTaken {
		// Without what the back-off has added.
		why, _, _ := strings.Cut(row.Reason, backOffMark)
		h.again(row, why)
		return
	}
	port := h.placing().port(sv.Spec.PortBase)
	why := fmt.Sprintf("port %d is taken on %s", row.Port, row.Node)
	switch {
	case port == 0:
		h.again(row, why+", and no other is free")
	case port > row.Port:
		h.relaunch(row, row.Node, port, row.Failures, why)
	default: // the range has been gone through once: no hurry
		h.againOn(row, row.Node, port, why)
	}
}

// running: only the probes of this term count.
func (h *healing) running(row fsm.Container, sv fsm.Service, o observation, leaving bool) {
	switch {
	case o.Probed && o.Healthy && !row.Status:
		h.status(row, true, "healthy")
		return
	case o.Held || !due(row, sv, o, h.now):
		return
	}
	reason := o.Reason
	if !o.Was && row.RetryAt <= row.Since {
		reason = fmt.Sprintf("no good answer within %s of its start: %s", time.Duration(sv.Spec.Health.StartTimeout), o.Reason)
	}
	switch {
	case o.Doubt && (o.Owner == unasked || o.Owner == disagrees):
	case o.Doubt && o.Owner == silent && o.Mass:
		// Most rows fail and nobody confirms it: it may be the leader that is cut off.
	case o.Doubt && o.Owner == silent, leaving:
		// Out of rotation, but relaunched only when its node agrees, or is dead.
		if row.Status {
			h.status(row, false, reason)
		}
	default:
		h.again(row, reason)
	}
}

// launching: its node has not said yet that it runs. One that does not begin with
// it for long may not be able to.
func (h *healing) launching(row fsm.Container, sv fsm.Service) {
	limit := startLimit(h.v, row) + launchLimit.Milliseconds()
	if h.now-row.Since < limit {
		return
	}
	if node, ok := h.placing().node(row.Node); ok {
		h.againOn(row, node, row.Port, fmt.Sprintf("node %s has not started it within %s", row.Node, time.Duration(limit)*time.Millisecond))
	}
}

// due says whether a failing row has failed for long enough to be acted upon.
func due(row fsm.Container, sv fsm.Service, o observation, now int64) bool {
	switch {
	case !o.Probed || o.Healthy:
		return false
	case o.Was, row.RetryAt > row.Since: // a former leader has judged it already
		return o.Failures >= sv.Spec.Health.Failures
	}
	return now-row.Since >= time.Duration(sv.Spec.Health.StartTimeout).Milliseconds()
}

// startLimit is how long (ms) a container may take until its first good answer.
func startLimit(v *fsm.State, row fsm.Container) int64 {
	sv, _ := v.Service(row.Service)
	return time.Duration(sv.Spec.Health.StartTimeout).Milliseconds()
}

func (h *healing) again(row fsm.Container, why string) { h.againOn(row, row.Node, row.Port, why) }

// againOn relaunches a row, or has it wait first when it keeps dying.
func (h *healing) againOn(row fsm.Container, node string, port int, why string) {
	failures := row.Failures
	if row.Status && h.now-row.Since >= fsm.StableAfter {
		failures = 0
	}
	wait := delay(failures, h.jitter)
	waits := row.RetryAt > row.Since // an older RetryAt is of an earlier death
	switch {
	case wait == 0, waits && h.now >= row.RetryAt:
		h.relaunch(row, node, port, failures+1, why)
	case row.Status:
		// Out of rotation first; the next pass has it wait.
		h.status(row, false, why)
	case !waits:
		reason := fmt.Sprintf("%s%s%d, next in %s", why, backOffMark, failures, wait.Round(100*time.Millisecond))
		h.add(fsm.BackOff{Row: row.Row(), RetryAt: h.now + max(1, wait.Milliseconds()), Failures: failures, Reason: reason}, why)
	}
}

func (h *healing) relaunch(row fsm.Container, node string, port, failures int, why string) {
	h.add(fsm.Relaunch{Row: row.Row(), Node: node, Port: port, Failures: failures, Reason: why}, why)
}

func (h *healing) status(row fsm.Container, healthy bool, why string) {
	reason := why
	if healthy {
		reason = ""
	}
	h.add(fsm.SetStatus{Row: row.Row(), Status: healthy, Reason: reason}, why)
}

func (h *healing) add(c fsm.Command, why string) { h.plan = append(h.plan, Action{c, why}) }
