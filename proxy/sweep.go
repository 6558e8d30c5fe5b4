package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The time limits of connections are kept by one loop that looks at all of them now and
// then: a limit set is one store, where a timer for each phase of each request would
// cost more than the rest of the proxy.

// sweepInterval is how exact the limits are.
const sweepInterval = 50 * time.Millisecond

// overdue stands in due when the time is over.
const overdue = -1

// clock is the time limit of what a client's connection is at.
type clock struct {
	phase   phase        // its goroutine's
	due     atomic.Int64 // ms on the registry's clock; 0: no limit
	look    atomic.Int64 // ms at which the connection reads once more; 0: never
	quiet   atomic.Int64 // ms at which the client is asked for, because its row is silent; 0: it is not
	left    atomic.Bool  // the client was found to have gone
	away    atomic.Bool  // net/http has it
	shaking atomic.Bool  // its handshake is under way
	mu      sync.Mutex   // held while deadlines are set from outside
	dead    bool         // the node ends: no limit is lifted any more; guarded by mu
	row     *rowConn     // that is waited for too; guarded by mu
}

type phase uint8

const (
	phaseIdle phase = iota
	phaseHead
	phaseRow
	phaseBody
)

// limit gives what begins now d to end; 0 is for ever. It is for the goroutine of the
// connection, or that of its request's body. It returns false where the time is over.
func (c *client) limit(d time.Duration) bool {
	due := int64(0)
	if d > 0 {
		due = c.proxy.clients.now.Load() + d.Milliseconds() + 1
	}
	for {
		old := c.due.Load()
		if old == overdue {
			return false // what is over stays over
		}
		if c.due.CompareAndSwap(old, due) {
			return true
		}
	}
}

// over says whether the time is over.
func (c *client) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.due.Load() == overdue
}

// lookSoon makes a connection that reads within the poller's wait read once more if
// nothing comes: an end of the stream that came together with the last bytes raised no
// event of its own. So does every connection while the node ends.
func (c *client) lookSoon() {
	if c.raw != nil || c.draining() {
		c.look.Store(c.proxy.clients.now.Load() + sweepInterval.Milliseconds())
	}
}

// hurry leaves a handshake that is under way at the end of the node a moment: who has sent
// all of its part gets a connection, who sends nothing does not keep the node.
func (c *client) hurry() {
	due := c.due.Load()
	soon := c.proxy.clients.now.Load() + handshakeRest.Milliseconds()
	if due > soon && c.shaking.Load() {
		c.due.CompareAndSwap(due, soon) // fails where the handshake has ended since
	}
}

const handshakeRest = time.Second

// untimed lifts the limit, also when it is over: the last answer is still to be written.
// When the node ends it is not lifted.
func (c *client) untimed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	c.due.Store(0)
	c.look.Store(0)
	c.quiet.Store(0)
	c.conn.SetDeadline(time.Time{}) // fails on a closed connection, as what follows will
}

// lookAgain goes on after an interruption that was not the end of the time.
func (c *client) lookAgain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.due.Load() != overdue {
		c.conn.SetDeadline(time.Time{}) // as in untimed
	}
}

// waitFor makes the row's connection end with the client's time; nil lets it go, and
// says whether it is untouched.
func (c *client) waitFor(rc *rowConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.row = rc
	over := c.due.Load() == overdue
	if over && rc != nil {
		rc.SetDeadline(longAgo) // fails on a closed connection only
	}
	return !over && !c.left.Load()
}

var longAgo = time.Unix(1, 0)

// expire ends whatever the connection waits for if its time is over.
func (c *client) expire(now int64) {
	if due := c.due.Load(); due > 0 && due <= now {
		c.mu.Lock()
		if c.due.CompareAndSwap(due, overdue) {
			c.conn.SetDeadline(longAgo) // fails on a closed connection only
			if c.row != nil {
				c.row.SetDeadline(longAgo)
			}
		}
		c.mu.Unlock()
		return
	}
	if look := c.look.Load(); look > 0 && look <= now {
		c.mu.Lock()
		if c.look.CompareAndSwap(look, 0) {
			c.conn.SetReadDeadline(longAgo) // fails on a closed connection only
		}
		c.mu.Unlock()
	}
	if quiet := c.quiet.Load(); quiet > 0 && quiet <= now {
		c.askFor(quiet, now)
	}
}

// askAgain is the time between two questions whether a client is still there.
const askAgain = time.Second

// askFor ends the wait for a silent row if the client has gone: it would hold the row
// until its next word.
func (c *client) askFor(quiet, now int64) {
	if !c.gone() {
		c.quiet.CompareAndSwap(quiet, now+askAgain.Milliseconds())
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.row != nil && c.quiet.CompareAndSwap(quiet, 0) {
		c.left.Store(true)
		c.row.SetDeadline(longAgo) // fails on a closed connection only
	}
}

// askSoon has the client asked for when the row stays silent.
func (c *client) askSoon() {
	c.quiet.Store(c.proxy.clients.now.Load() + c.proxy.cfg.GoneAfter.Milliseconds())
}

// gone says whether the client has closed its side of the connection.
func (c *client) gone() bool {
	if c.sock == nil {
		return false
	}
	gone := false
	err := c.sock.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		gone = err == nil && (info.State == unix.BPF_TCP_CLOSE_WAIT || info.State == unix.BPF_TCP_CLOSE)
	})
	return err == nil && gone
}

// interrupt makes the connection's goroutine look up from a wait for the client.
func (c *client) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetReadDeadline(longAgo) // fails on a closed connection only
}

// registry is the open connections of clients.
type registry struct {
	began    time.Time
	now      atomic.Int64 // ms since began, at the last sweep
	stopping atomic.Bool
	shards   [16]shard
	next     atomic.Uint32
}

type shard struct {
	mu      sync.Mutex
	clients map[*client]struct{}
}

type place struct{ shard *shard }

func (r *registry) add(c *client) {
	c.shard = &r.shards[r.next.Add(1)%uint32(len(r.shards))]
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	if c.shard.clients == nil {
		c.shard.clients = map[*client]struct{}{}
	}
	c.shard.clients[c] = struct{}{}
}

func (r *registry) remove(c *client) {
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	delete(c.shard.clients, c)
}

func (r *registry) each(f func(*client)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		for c := range s.clients {
			f(c)
		}
		s.mu.Unlock()
	}
}

func (c *client) draining() bool { return c.proxy.clients.stopping.Load() }

// sweep keeps the clock and the limits until ctx ends.
func (r *registry) sweep(ctx context.Context, p *Proxy) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Since(r.began).Milliseconds()
		r.now.Store(now)
		r.each(func(c *client) { c.expire(now) })
		if now%1000 < sweepInterval.Milliseconds() {
			p.expireIdle(now - idleRowTimeout.Milliseconds())
		}
	}
}

// expireIdle closes connections to rows that were idle since before tick.
func (p *Proxy) expireIdle(tick int64) {
	p.setting.Lock()
	defer p.setting.Unlock()
	for _, u := range p.pool {
		u.idle.expire(tick)
	}
}

// drain ends the connections that wait for a request and waits for the others until
// ctx ends; it says whether all have ended. open counts those too that are not in the
// registry yet; nothing is accepted any more.
func (r *registry) drain(ctx context.Context, open *atomic.Int64) bool {
	r.stopping.Store(true)
	r.each(func(c *client) {
		switch {
		case c.away.Load(): // net/http lets its requests end by itself
		case c.shaking.Load():
			c.hurry()
		default:
			c.interrupt()
		}
	})
	tick := time.NewTicker(sweepInterval / 5)
	defer tick.Stop()
	for open.Load() > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// cut ends every connection: whatever its goroutine waits for fails at once. It closes
// none itself: a close waits for who reads within the poller's wait, and that may be
// waiting for a row.
func (r *registry) cut() {
	r.each(func(c *client) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dead = true
		c.due.Store(overdue)
		c.conn.SetDeadline(longAgo) // fails on a closed connection only, as do the others
		if c.row != nil {
			c.row.SetDeadline(longAgo)
		}
	})
}
