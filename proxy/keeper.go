package proxy

import (
	"context"
	"time"
)

// keeper takes a service's turns and reports what was served: one command at a time.
type keeper struct {
	*turns
	size float64   // of the next lease
	last time.Time // when the last lease was taken
	had  uint64    // leased turns spent and local ones, by then
}

// keep runs until ctx ends or the service goes; then it reports once more.
func (t *turns) keep(ctx context.Context) {
	k := &keeper{turns: t, size: 1, last: time.Now()}
	report := time.NewTicker(reportInterval)
	defer report.Stop()
	for {
		due := false
		select {
		case <-ctx.Done():
			due = true
		case <-t.quit:
			due = true
		case <-t.kick:
		case <-report.C:
			due = true
		}
		ended := ctx.Err() != nil || t.quitting()
		req := TakeRequest{Service: t.name}
		var waiting []chan uint64
		if !ended {
			waiting = t.waiters()
			req.Count = len(waiting) + k.wanted(time.Now())
		}
		if req.Count > 0 || due && t.served.Load() > 0 {
			req.Served = t.served.Swap(0)
			req.Seq = t.seq.Add(1)
			k.ask(ctx, req, waiting)
		}
		if ended {
			t.fail(t.waiters())
			return
		}
	}
}

func (t *turns) quitting() bool {
	select {
	case <-t.quit:
		return true
	default:
		return false
	}
}

// wanted is how many turns are wanted now: none while there is a spare lease, else what
// was spent since the last one at that pace for leaseSpan; at most four times the last,
// at least half of it, and no less than the requests that wait.
func (k *keeper) wanted(now time.Time) int {
	if !k.hungry.Swap(false) {
		return 0
	}
	r, next := k.current.Load(), k.spare.Load()
	if next != nil && next != r || r.end > 0 && r.next.Load() <= r.half {
		return 0 // the hunger was the last run's
	}
	had := k.spent(Leased) + k.spent(Local)
	pace := float64(had-k.had) * float64(leaseSpan) / float64(max(now.Sub(k.last), time.Millisecond))
	k.size = min(max(pace, k.size/2, float64(k.dry.Load()), 1), k.size*4+float64(k.dry.Load()), maxLease)
	k.had, k.last = had, now
	k.leaseSize.Store(int64(k.size))
	return int(k.size)
}

// ask sends one request until it is answered: a repeat counts once, so that what was
// served is neither lost nor counted twice. At the end it tries once more.
func (k *keeper) ask(ctx context.Context, req TakeRequest, waiting []chan uint64) {
	for {
		c, last := ctx, ctx.Err() != nil || k.quitting()
		if last {
			var cancel context.CancelFunc
			c, cancel = context.WithTimeout(context.WithoutCancel(ctx), reportInterval)
			defer cancel()
		}
		from, err := k.source.Take(c, req)
		if err == nil {
			k.fill(from, req.Count, waiting)
			return
		}
		k.goAlone()
		k.fail(waiting)
		waiting = nil
		if last {
			return
		}
		select {
		case <-ctx.Done():
		case <-k.quit:
		case <-time.After(takeRetry):
		}
	}
}

// fill hands out what a command brought: to the requests that waited, or as a lease.
func (t *turns) fill(from uint64, count int, waiting []chan uint64) {
	for i, w := range waiting {
		w <- from + uint64(i)
	}
	if n := uint64(count - len(waiting)); n > 0 {
		from += uint64(len(waiting))
		r := &run{end: from + n, half: from + n/2}
		r.next.Store(from)
		t.issued.Add(n)
		t.spare.Store(r)
	}
	t.alone.Store(0)
	t.wake()
}

func (t *turns) fail(waiting []chan uint64) {
	for _, w := range waiting {
		close(w)
	}
	t.wake()
}

func (t *turns) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.filled)
	t.filled = make(chan struct{})
}
