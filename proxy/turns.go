package proxy

import (
	"context"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of turns.
const (
	// leaseSpan is what a lease is meant to last: one command for 50 ms of requests.
	leaseSpan = 50 * time.Millisecond
	// maxLease bounds a lease, in turns: 50 ms at 80,000 req/s.
	maxLease = 4096
	// dryWait is how long a request waits for a lease that is on its way. Longer
	// means that there is no quorum, which a failed command says too.
	dryWait = 500 * time.Millisecond
	// takeRetry is the pause after a command that failed.
	takeRetry = 200 * time.Millisecond
	// reportInterval is how long served requests may go unreported.
	reportInterval = time.Second
	// maxWaiting bounds the requests that wait for exact turns; the next one is
	// served by a leased turn.
	maxWaiting = 4096
)

// Source says where a turn came from.
type Source string

// The sources of turns.
const (
	Leased Source = "leased"
	Exact  Source = "exact"
	Local  Source = "local"
)

// run is a stretch of turns in hand. next may pass end; what is past it is not a turn.
type run struct {
	next atomic.Uint64
	end  uint64
	half uint64
}

// turns is what this node has in hand of one service's turn.
type turns struct {
	name   string
	source Turns

	current atomic.Pointer[run]
	spare   atomic.Pointer[run]
	local   atomic.Uint64 // local turns begin at an offset of this node's own
	failing atomic.Int64  // ns since the epoch at which commands began to fail; 0 is well
	served  atomic.Uint64 // counted, not yet in a report
	// hungry is set when a lease is half spent or missing, and only then is another
	// one taken: turns that nobody spends would be turns that some row misses.
	hungry atomic.Bool

	kick chan struct{}
	quit chan struct{}

	mu      sync.Mutex
	filled  chan struct{} // closed and renewed when a run arrives, or fails to
	waiting []chan uint64 // of exact turns
	size    int           // of the next lease
}

func newTurns(name, node string, source Turns) *turns {
	h := fnv.New64a()
	h.Write([]byte(node + "\x00" + name))
	t := &turns{name: name, source: source, kick: make(chan struct{}, 1), quit: make(chan struct{}), filled: make(chan struct{}), size: 1}
	t.local.Store(h.Sum64() >> 16)
	t.current.Store(&run{})
	return t
}

func (t *turns) stop() { close(t.quit) }

// lease spends one leased turn; without one in hand it waits for the one on its way,
// and without a quorum it goes on by a local turn.
func (t *turns) lease(ctx context.Context) (uint64, Source) {
	if turn, ok := t.spend(); ok {
		return turn, Leased
	}
	if t.failing.Load() == 0 {
		timeout := time.NewTimer(dryWait)
		defer timeout.Stop()
		for t.failing.Load() == 0 {
			t.mu.Lock()
			filled := t.filled
			t.mu.Unlock()
			if turn, ok := t.spend(); ok {
				return turn, Leased
			}
			t.hunger()
			select {
			case <-filled:
				continue
			case <-timeout.C:
			case <-ctx.Done():
			}
			break
		}
	}
	t.hunger()
	return t.local.Add(1), Local
}

func (t *turns) hunger() {
	t.hungry.Store(true)
	t.poke()
}

// spend takes a turn from memory: no wait, no lock, no allocation.
func (t *turns) spend() (uint64, bool) {
	for {
		r := t.current.Load()
		turn := r.next.Add(1) - 1
		if turn < r.end {
			if turn == r.half {
				t.hunger()
			}
			return turn, true
		}
		next := t.spare.Load()
		if next == nil {
			return 0, false
		}
		if t.current.CompareAndSwap(r, next) {
			t.spare.CompareAndSwap(next, nil)
		}
	}
}

// exact waits for this request's own turn; a queue that is full falls back to leased
// turns, and says so.
func (t *turns) exact(ctx context.Context) (uint64, Source) {
	if t.failing.Load() != 0 {
		t.poke()
		return t.local.Add(1), Local
	}
	mine := make(chan uint64, 1)
	t.mu.Lock()
	if len(t.waiting) >= maxWaiting {
		t.mu.Unlock()
		return t.lease(ctx)
	}
	t.waiting = append(t.waiting, mine)
	t.mu.Unlock()
	t.poke()
	timeout := time.NewTimer(4 * dryWait)
	defer timeout.Stop()
	select {
	case turn, ok := <-mine:
		if ok {
			return turn, Exact
		}
	case <-timeout.C:
	case <-ctx.Done():
	}
	return t.local.Add(1), Local
}

func (t *turns) poke() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// keep takes turns and reports what was served until ctx ends or the service goes;
// then it reports once more.
func (t *turns) keep(ctx context.Context) {
	report := time.NewTicker(reportInterval)
	defer report.Stop()
	var seq uint64
	taken := time.Now()
	for {
		due := false
		select {
		case <-ctx.Done():
		case <-t.quit:
		case <-t.kick:
		case <-report.C:
			due = true
		}
		ended := ctx.Err() != nil
		req := TakeRequest{Service: t.name, Seq: seq + 1}
		var waiting []chan uint64
		if !ended {
			waiting, req.Count = t.wanted(taken)
		}
		if req.Count == 0 && (!(due || ended) || t.served.Load() == 0) {
			if ended || t.quitting() {
				return
			}
			continue
		}
		req.Served = t.served.Swap(0)
		seq++
		taken = time.Now()
		if !t.take(ctx, req, waiting) {
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

// wanted is how many turns are wanted now: one for each request that waits for an
// exact one, or the next lease when there is no spare.
func (t *turns) wanted(taken time.Time) ([]chan uint64, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) > 0 {
		waiting := t.waiting
		t.waiting = nil
		return waiting, len(waiting)
	}
	r := t.current.Load()
	spent := r.next.Load()
	if !t.hungry.Swap(false) || t.spare.Load() != nil || spent < r.half {
		return nil, 0
	}
	// What was spent since the last lease, at that pace for leaseSpan; at most
	// twice the last one, at least half of it.
	pace := float64(t.size) * float64(leaseSpan) / float64(max(time.Since(taken), time.Millisecond))
	t.size = int(min(max(pace, float64(t.size)/2, 1), float64(t.size)*2, maxLease))
	return nil, t.size
}

// take sends one request until it is answered: a repeat counts once, so that what was
// served is neither lost nor counted twice. It returns false at the end.
func (t *turns) take(ctx context.Context, req TakeRequest, waiting []chan uint64) bool {
	last := false
	for {
		c := ctx
		if ctx.Err() != nil {
			last = true
			var cancel context.CancelFunc
			c, cancel = context.WithTimeout(context.WithoutCancel(ctx), reportInterval)
			defer cancel()
		}
		from, err := t.source.Take(c, req)
		if err == nil {
			t.failing.Store(0)
			t.fill(from, req.Count, waiting)
			return !last && !t.quitting()
		}
		t.failing.CompareAndSwap(0, time.Now().UnixNano())
		t.fail(waiting)
		waiting = nil
		if last || t.quitting() {
			return false
		}
		select {
		case <-ctx.Done():
		case <-t.quit:
			return false
		case <-time.After(takeRetry):
		}
	}
}

func (t *turns) fill(from uint64, count int, waiting []chan uint64) {
	for i, w := range waiting {
		w <- from + uint64(i)
	}
	if waiting == nil && count > 0 {
		r := &run{end: from + uint64(count), half: from + uint64(count)/2}
		r.next.Store(from)
		t.spare.Store(r)
	}
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
