package proxy

import "sync"

// idlePool is the connections to a row that wait for the next request, the one used
// last on top: the others grow old and are closed.
type idlePool struct {
	mu     sync.Mutex
	conns  []*rowConn
	closed bool
}

// idlePerRow bounds the connections kept to one row: as many as requests are in
// flight on it at a busy moment.
const idlePerRow = 512

// get returns the connection used last, or nil.
func (p *idlePool) get() *rowConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.conns) - 1
	if n < 0 {
		return nil
	}
	c := p.conns[n]
	p.conns[n] = nil
	p.conns = p.conns[:n]
	return c
}

// put keeps a connection, or returns false.
func (p *idlePool) put(c *rowConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.conns) >= idlePerRow {
		return false
	}
	p.conns = append(p.conns, c)
	return true
}

// close closes what is kept, and keeps nothing more until open.
func (p *idlePool) close() {
	p.mu.Lock()
	conns := p.conns
	p.conns, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

func (p *idlePool) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = false
}

// expire closes the connections that were last used before tick.
func (p *idlePool) expire(tick int64) {
	p.mu.Lock()
	n := 0
	for n < len(p.conns) && p.conns[n].used < tick {
		n++
	}
	old := append([]*rowConn(nil), p.conns[:n]...)
	p.conns = append(p.conns[:0], p.conns[n:]...)
	clear(p.conns[len(p.conns):cap(p.conns)])
	p.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}
