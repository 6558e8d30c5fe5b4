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
	room    chan struct{} // a token: some row has room; too many cost a look
}

func newLine(most int) *line { return &line{most: int64(most), room: make(chan struct{}, most)} }

// settled is called after a request has left a row.
func (l *line) settled() {
	if l.waiting.Load() > 0 {
		select {
		case l.room <- struct{}{}:
		default:
		}
	}
}

// wait waits until look succeeds: it is called at once and after every request that
// ends. It returns false when the queue is full, or after timeout.
func (l *line) wait(ctx context.Context, timeout time.Duration, look func() bool) bool {
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > l.most {
		return false
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	for !look() {
		select {
		case <-l.room:
		case <-t.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}
