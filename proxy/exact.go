package proxy

import (
	"context"
	"time"
)

// exact waits for this request's own turn. Requests that come while a command is under
// way share the next one. A queue that is full falls back to leased turns, and says so.
func (t *turns) exact(ctx context.Context) (uint64, Source) {
	if t.alone.Load() != 0 {
		t.hunger()
		return t.local.Add(1) - 1, Local
	}
	mine := make(chan uint64, 1)
	t.mu.Lock()
	if len(t.waiting) >= maxWaiting {
		t.mu.Unlock()
		return t.take(ctx, false)
	}
	t.waiting = append(t.waiting, mine)
	t.mu.Unlock()
	t.poke()
	timeout := time.NewTimer(exactWait)
	defer timeout.Stop()
	select {
	case turn, ok := <-mine:
		if ok {
			t.exactly.Add(1)
			return turn, Exact
		}
	case <-timeout.C:
		t.goAlone()
	case <-ctx.Done():
	}
	return t.local.Add(1) - 1, Local
}

// waiters takes over all that wait for exact turns.
func (t *turns) waiters() []chan uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.waiting
	t.waiting = nil
	return w
}
