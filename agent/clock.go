package agent

import (
	"sync"
	"time"
)

// clock makes the stamps of commands: the newest stamp applied plus the time
// since, measured by the monotonic clock. A jump of the machine's clock or a
// change of leader neither stretches nor shortens the window of requests.
//
// Only before the first entry of this life of the cluster (nobody else kept the
// time while all were down) does the machine's clock move it, and only forward.
type clock struct {
	mu    sync.Mutex
	stamp int64 // ms since the Unix epoch
	since time.Time
	live  bool
}

func newClock(now time.Time) *clock { return &clock{stamp: now.UnixMilli(), since: now} }

// observe takes the stamp of an applied entry; live is false while the entries
// of an earlier life are replayed.
func (c *clock) observe(stamp int64, live bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !live && !c.live {
		if at := c.at(now); stamp > at {
			c.stamp, c.since = stamp, now
		}
		return
	}
	// The first live entry sets the time. After it a stamp only ever moves the clock
	// forward: it is as old as its commit took, and to go back by that much with each
	// entry would slow the cluster's time down.
	if !c.live || stamp > c.at(now) {
		c.stamp, c.since, c.live = stamp, now, true
	}
}

// now returns the stamp for a command proposed at this moment.
func (c *clock) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at(time.Now())
}

func (c *clock) at(now time.Time) int64 { return c.stamp + now.Sub(c.since).Milliseconds() }
