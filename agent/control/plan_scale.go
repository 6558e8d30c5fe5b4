package control

import (
	"context"
	"fmt"
	"time"

	"orch/fsm"
)

// scaleSpare is how long after a second's end its decision is made, so that the
// counts stamped within it have been applied.
const scaleSpare = 20 * time.Millisecond

// scale decides each second, and at once after the table has changed.
func (t *term) scale(ctx context.Context) error {
	return t.every(ctx, noKick, func(ctx context.Context) (time.Duration, error) {
		now := t.cfg.Now()
		err := t.do(ctx, planScale(t.views.View(), now))
		return time.Duration(1000-now%1000)*time.Millisecond + scaleSpare, err
	})
}

// planScale decides how many containers each service shall have, where that is not
// what was decided last. It looks at whole seconds that are over, so that any
// leader that looks within the same second decides the same.
func planScale(v *fsm.State, now int64) []Action {
	var plan []Action
	for _, sv := range v.Services {
		if d := decide(sv, now); d.Desired != sv.Decision.Desired {
			plan = append(plan, Action{fsm.Decide{Service: sv.Name, Seen: sv.Index, Decision: d}, d.Reason})
		}
	}
	return bounded(plan)
}

// decide is the number of containers a service shall have at now (ms): up at once,
// down only after the lower number has been right for the cooldown on end. It is
// the highest want of the seconds of the cooldown, so nothing is remembered.
func decide(sv fsm.Service, now int64) fsm.Decision {
	d := fsm.Decision{At: now}
	if sv.Removing {
		d.Reason = "the service is to be removed"
		return d
	}
	sc := sv.Spec.Scale
	d.Requests = requestsUntil(sv, now/1000-1)
	if sv.Manual != 0 {
		d.Desired, d.Reason = sv.Manual, fmt.Sprintf("%d by hand", sv.Manual)
		return d
	}
	peak := peakRequests(sv, now/1000-1)
	d.Desired = want(sc, peak)
	window, cooldown := time.Duration(sc.Window), time.Duration(sc.Cooldown)
	if want(sc, d.Requests) == d.Desired {
		d.Reason = fmt.Sprintf("%d requests in %s, %d a container", d.Requests, window, sc.RequestsPerContainer)
		return d
	}
	d.Reason = fmt.Sprintf("%d requests in %s; %d in the busiest of the last %s, %d a container", d.Requests, window, peak, cooldown, sc.RequestsPerContainer)
	return d
}

// want is the original orchestrator's rule: a container for each so many requests
// in the window, and one.
func want(sc fsm.Scale, requests uint64) int {
	n := requests/uint64(max(1, sc.RequestsPerContainer)) + 1
	return int(min(max(n, uint64(max(0, sc.Min))), uint64(max(0, sc.Max))))
}

// requestsUntil counts the window that ends with second.
func requestsUntil(sv fsm.Service, second int64) uint64 {
	return sv.Requests(second*1000, time.Duration(sv.Spec.Scale.Window).Milliseconds())
}

// peakRequests is the highest count of all windows that end within the cooldown up
// to second.
func peakRequests(sv fsm.Service, second int64) uint64 {
	window, cooldown := seconds(sv.Spec.Scale.Window), seconds(sv.Spec.Scale.Cooldown)
	var peak, sum uint64
	in, out := 0, 0 // buckets before in are in the sum, those before out have left it
	b := sv.Buckets
	for end := second - max(1, cooldown) + 1; end <= second; end++ {
		for ; in < len(b) && b[in].Second <= end; in++ {
			sum += b[in].Count
		}
		for ; out < in && b[out].Second <= end-window; out++ {
			sum -= b[out].Count
		}
		peak = max(peak, sum)
	}
	return peak
}

func seconds(d fsm.Duration) int64 { return int64(time.Duration(d) / time.Second) }
