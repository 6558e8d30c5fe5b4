package proxy

import (
	"context"
	"sync/atomic"
	"time"
)

// line is where the requests of a service wait while all its rows are full.
type line struct {
	most    int64 // that may wait
	waiting atomic.Int64
	room    chan int // a token: some row has room, and how many may pass the token on
}

func newLine(most int) *line { return &line{most: int64(most), room: make(chan int, most)} }

// lineInterval is how often who waits looks again without being told: a token that was
// lost costs this and no more.
const lineInterval = 20 * time.Millisecond

// settled is called after a request has left a row.
func (l *line) settled() {
	if n := l.waiting.Load(); n > 0 {
		l.post(int(n))
	}
}

func (l *line) post(n int) {
	select {
	case l.room <- n:
	default: // as many as may wait are there
	}
}

// wait waits until look succeeds: it is called at once, after every request that ends,
// and with every change of the table. It fails when the queue is full, or after timeout.
// Room that is of no use here, since the request has tried that row, is passed on.
func (l *line) wait(ctx context.Context, timeout time.Duration, changed func() <-chan struct{}, look func() bool) error {
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > l.most {
		return errQueue
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	tick := time.NewTicker(lineInterval)
	defer tick.Stop()
	for {
		again := changed()
		if look() {
			return nil
		}
		select {
		case n := <-l.room:
			if look() {
				return nil
			}
			if n > 1 { // it is not for this one, or was gone: the next is told
				l.post(n - 1)
			}
		case <-again:
		case <-tick.C:
		case <-t.C:
			return errBusy
		case <-ctx.Done():
			return errBusy
		}
	}
}
