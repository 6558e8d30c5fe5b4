package proxy

import (
	"sync/atomic"
	"testing"
)

// TestExactQueueIsBounded: a request that finds as many waiting as may goes on by a leased
// turn, and says so.
func TestExactQueueIsBounded(t *testing.T) {
	turns := newTurns("acts", "n1", hanging{}, new(atomic.Uint64))
	turns.spare.Store(&run{end: 10, half: 5})
	turns.waiting = make([]chan uint64, maxWaiting)
	for want := range uint64(3) {
		if turn, source := turns.take(t.Context(), true); turn != want || source != Leased {
			t.Errorf("turn %d is %d, %s", want, turn, source)
		}
	}
	if n := len(turns.waiters()); n != maxWaiting {
		t.Errorf("%d wait", n)
	}
}
