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
	// dryWait is how long requests wait, once, for a lease that is on its way; a
	// command takes 1 to 20 ms. After it the node goes on by local turns until the
	// lease comes.
	dryWait = 100 * time.Millisecond
	// exactWait is the same for a request's own turn: two elections of the lan profile.
	exactWait = time.Second
	// takeRetry is the pause after a command that failed.
	takeRetry = 100 * time.Millisecond
	// reportInterval is how long served requests may go unreported.
	reportInterval = time.Second
	// maxWaiting bounds the requests that wait for exact turns, and the turns of one
	// command; the next request is served by a leased turn.
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

var sources = [3]Source{Leased, Exact, Local}

// run is a stretch of turns in hand. next may pass end; what is past it is not a turn.
type run struct {
	_    [64]byte
	next atomic.Uint64 // every request writes it: a cache line of its own
	_    [64]byte
	end  uint64
	half uint64
}

// left is how many turns of the run nobody has spent.
func (r *run) left() uint64 { return r.end - min(r.next.Load(), r.end) }

// turns is what this node has in hand of one service's turn.
//
// Shares stay even because every node spends consecutive turns, leased and local ones
// alike: what keeps a row from its exact share is only where stretches begin and end.
// So a lease in hand is spent to its end, never thrown away, and at most two are held.
type turns struct {
	name   string
	source Turns
	seq    *atomic.Uint64 // of the last command; a service that comes again goes on with it

	current atomic.Pointer[run]
	spare   atomic.Pointer[run]
	local   atomic.Uint64 // the next local turn; it begins at an offset of this node's own
	first   uint64        // that offset
	issued  atomic.Uint64 // turns of all leases taken
	exactly atomic.Uint64 // exact turns handed out
	// alone is the time (ns since the epoch) since which the node goes on by local
	// turns: a command failed, or takes too long. 0 is well.
	alone  atomic.Int64
	served atomic.Uint64 // counted, not yet in a report
	// hungry is set when a lease is half spent or missing, and only then is another
	// one taken: turns that nobody spends would be turns that some row misses.
	hungry    atomic.Bool
	dry       atomic.Int64 // requests that wait for a lease
	leaseSize atomic.Int64 // of the last one

	kick chan struct{}
	quit chan struct{}

	mu      sync.Mutex
	filled  chan struct{} // closed and renewed when a command was answered
	waiting []chan uint64 // for exact turns
}

func newTurns(name, node string, source Turns, seq *atomic.Uint64) *turns {
	h := fnv.New64a()
	h.Write([]byte(node + "\x00" + name))
	t := &turns{name: name, source: source, seq: seq, kick: make(chan struct{}, 1), quit: make(chan struct{}), filled: make(chan struct{}), first: h.Sum64() >> 16}
	t.local.Store(t.first)
	t.current.Store(&run{})
	return t
}

func (t *turns) stop() { close(t.quit) }

// take returns the turn of one request, from the source its service asks for if that
// is to be had.
func (t *turns) take(ctx context.Context, exact bool) (uint64, Source) {
	if exact {
		return t.exact(ctx)
	}
	if turn, ok := t.spend(); ok {
		return turn, Leased
	}
	return t.wait(ctx)
}

// wait is for a request that finds no lease in hand: it waits for the one on its way,
// and without a quorum it goes on by a local turn at once.
func (t *turns) wait(ctx context.Context) (uint64, Source) {
	if t.alone.Load() == 0 {
		t.dry.Add(1)
		defer t.dry.Add(-1)
		timeout := time.NewTimer(dryWait)
		defer timeout.Stop()
		for t.alone.Load() == 0 {
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
				t.goAlone()
			case <-ctx.Done():
			}
			break
		}
	}
	t.hunger()
	return t.local.Add(1) - 1, Local
}

func (t *turns) goAlone() { t.alone.CompareAndSwap(0, time.Now().UnixNano()) }

func (t *turns) hunger() {
	if !t.hungry.Swap(true) {
		t.poke()
	}
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

// inHand is how many leased turns nobody has spent.
func (t *turns) inHand() uint64 {
	r, next := t.current.Load(), t.spare.Load()
	n := r.left()
	if next != nil && next != r {
		n += next.left()
	}
	return n
}

// spent is how many turns of a source requests have got.
func (t *turns) spent(s Source) uint64 {
	switch s {
	case Leased:
		issued := t.issued.Load()
		return issued - min(t.inHand(), issued)
	case Exact:
		return t.exactly.Load()
	}
	return t.local.Load() - t.first
}

func (t *turns) poke() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}
