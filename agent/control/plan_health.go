package control

import (
	"fmt"
	"time"

	"orch/fsm"
)

// Back-off of a container that keeps dying: none at first, then 1 s doubled up to
// a minute, a fifth of it by chance so that many do not come back together.
const (
	firstDelay = time.Second
	lastDelay  = time.Minute
	chance     = 0.2
)

func delay(failures int, jitter float64) time.Duration {
	if failures == 0 {
		return 0
	}
	d := lastDelay
	if failures < 7 {
		d = min(lastDelay, firstDelay<<(failures-1))
	}
	return d + time.Duration(float64(d)*chance*jitter)
}

// massFailure is the least number of rows of which more than half failing looks
// like a fault of the one who probes.
const massFailure = 4

// planHealth turns observations into verdicts and relaunches. Rows that this term
// has not probed itself are left alone, unless their own node reports their end.
func planHealth(v *fsm.State, seen map[rowKey]observation, now int64, jitter float64) []Action {
	var plan []Action
	doubtful := doubt(v, seen)
	p := newPlacing(v)
	for _, row := range v.Containers {
		if row.Desired != fsm.Running {
			continue
		}
		sv, _ := v.Service(row.Service)
		o, probed := seen[keyOf(row)]
		failing := probed && !o.Healthy && o.Failures >= sv.Spec.Health.Failures && !(doubtful && !o.Certain)
		dead := nodeGone(v, row.Node)
		switch {
		case row.PortTaken:
			port := p.nextPort(sv.Spec.PortBase)
			plan = append(plan, relaunch(row, row.Node, port, row.Failures, fmt.Sprintf("port %d is taken on %s", row.Port, row.Node)))
		case dead && (failing || row.Observed != fsm.Running):
			if node, ok := p.node(); ok {
				plan = append(plan, relaunch(row, node, row.Port, row.Failures, "node "+row.Node+" is lost"))
			}
		case row.Observed == fsm.Stopped:
			plan = again(plan, row, row.Reason, now, jitter)
		case row.Observed != fsm.Running:
		case probed && o.Healthy && !row.Status:
			plan = append(plan, Action{fsm.SetStatus{Row: row.Row(), Status: true}, "healthy"})
		case failing && (row.Status || row.RetryAt != 0):
			plan = again(plan, row, o.Reason, now, jitter)
		case failing && now-row.Since >= time.Duration(sv.Spec.Health.StartTimeout).Milliseconds():
			plan = again(plan, row, fmt.Sprintf("not healthy %s after its start: %s", time.Duration(sv.Spec.Health.StartTimeout), o.Reason), now, jitter)
		}
	}
	return plan
}

// doubt: more than half of what was probed fails, and not all of it for certain.
func doubt(v *fsm.State, seen map[rowKey]observation) bool {
	probed, failing := 0, 0
	for _, row := range v.Containers {
		o, ok := seen[keyOf(row)]
		if !ok || !row.Status {
			continue
		}
		probed++
		if !o.Healthy {
			failing++
		}
	}
	return probed >= massFailure && failing*2 > probed
}

// again relaunches a row where it was, or has it wait first.
func again(plan []Action, row fsm.Container, why string, now int64, jitter float64) []Action {
	failures := row.Failures
	if row.Status && now-row.Since >= fsm.StableAfter {
		failures = 0
	}
	wait := delay(failures, jitter)
	switch {
	case wait == 0 || row.RetryAt != 0 && now >= row.RetryAt:
		return append(plan, relaunch(row, row.Node, row.Port, failures+1, why))
	case row.RetryAt != 0:
		return plan // it waits already
	}
	reason := fmt.Sprintf("%s; failed %d times, next try in %s", why, failures, wait.Round(100*time.Millisecond))
	return append(plan, Action{fsm.BackOff{Row: row.Row(), RetryAt: now + wait.Milliseconds(), Failures: failures, Reason: reason}, why})
}

func relaunch(row fsm.Container, node string, port, failures int, why string) Action {
	return Action{fsm.Relaunch{Row: row.Row(), Node: node, Port: port, Failures: failures, Reason: why}, why}
}

func nodeGone(v *fsm.State, id string) bool {
	n, ok := v.Node(id)
	return !ok || n.Status == fsm.NodeDead || n.Status == fsm.NodeLeft
}
