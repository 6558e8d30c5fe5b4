package control

import (
	"context"
	"sync"
	"time"

	"orch/fsm"
)

// drain stops what nobody sends requests to any more.
func (t *term) drain(ctx context.Context) error {
	return t.every(ctx, noKick, func(ctx context.Context) (time.Duration, error) {
		v := t.views.View()
		if !leaving(v) {
			return t.cfg.Interval, nil
		}
		return drainInterval, t.do(ctx, planDrain(v, t.reports(ctx, v), t.cfg.Now()))
	})
}

func leaving(v *fsm.State) bool {
	for _, row := range v.Containers {
		if row.Desired != fsm.Running {
			return true
		}
	}
	return false
}

// reports asks every node that may still serve, all at once.
func (t *term) reports(ctx context.Context, v *fsm.State) map[string]Report {
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]Report{}
	for _, n := range v.Nodes {
		if gone(n.Status) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reportTimeout)
			defer cancel()
			r, err := t.peers.Report(ctx, n.ID)
			if err != nil {
				return // counts as: not released
			}
			mu.Lock()
			defer mu.Unlock()
			out[n.ID] = r
		})
	}
	wg.Wait()
	return out
}

func gone(s fsm.NodeStatus) bool { return s == fsm.NodeDead || s == fsm.NodeLeft }

// planDrain stops each draining row that every live node has let go of, or whose
// time is up or whose container has ended, and forgets those whose node cannot say
// that they have stopped.
func planDrain(v *fsm.State, reports map[string]Report, now int64) []Action {
	var plan []Action
	for _, row := range v.Containers {
		if row.Desired == fsm.Running {
			continue
		}
		n, _ := v.Node(row.Node)
		held := holding(v, row, reports)
		free, over := held == "", now >= row.DrainDeadline
		stop := func(reason, why string) {
			plan = append(plan, Action{fsm.Stop{Row: row.Row(), Reason: reason}, why})
		}
		switch {
		case gone(n.Status) && (row.Desired == fsm.Stopped || free || over):
			why := "node " + row.Node + " is lost and cannot say that it has stopped"
			plan = append(plan, Action{fsm.Forget{Row: row.Row(), Reason: why}, why})
		case row.Desired == fsm.Stopped:
		case row.Observed == fsm.Stopped:
			stop(row.Reason, "it has ended")
		case free:
			stop(row.Reason, "no node has requests on it")
		case over:
			stop(held+" at the end of the drain", "deadline")
		}
	}
	return bounded(plan)
}

// holding says which live node does not serve yet from a table in which the row drains, or
// has requests in flight on it; "" when there is none. The row's index is that of the drain
// or a later one.
func holding(v *fsm.State, row fsm.Container, reports map[string]Report) string {
	for _, n := range v.Nodes {
		if gone(n.Status) {
			continue
		}
		r, ok := reports[n.ID]
		if !ok {
			return "node " + n.ID + " did not answer whether it still sends requests there"
		}
		if r.Serving < row.Index {
			return "node " + n.ID + " still served from an older table"
		}
		for _, l := range r.Loads {
			if l.Service == row.Service && l.Number == row.Number && l.Generation == row.Generation && l.InFlight > 0 {
				return "requests from node " + n.ID + " were still in flight"
			}
		}
	}
	return ""
}
