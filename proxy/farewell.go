package proxy

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// reject answers a request that was not understood, and ends the connection: where it
// ends cannot be known.
func (c *client) reject(err error) {
	c.ended = true
	r := status(err)
	c.proxy.metrics.met(r.limit)
	c.proxy.unrouted.answered(r.status, 0)
	c.final = r.append(nil, nil, true)
}

// linger writes the last answer of a connection and waits a moment for the client to
// read it: closing over unread bytes would reset it.
func (c *client) linger(answer []byte) {
	if c.ctx.Err() != nil {
		return
	}
	c.untimed()
	end := time.Now().Add(lingerTime)
	last := time.Now().Add(c.proxy.cfg.BodyTimeout)
	if err := c.conn.SetDeadline(end); err != nil {
		return
	}
	if c.write(answer) != nil {
		return
	}
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	b := make([]byte, lingerRead)
	untaken := c.untaken()
	for n := 0; ; {
		m, err := c.conn.Read(b)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || c.ctx.Err() != nil {
			return
		}
		n += m
		now := time.Now()
		if n < lingerBytes && now.Before(end) {
			if err != nil && c.conn.SetDeadline(end) != nil { // somebody only wanted it to look up
				return
			}
			continue
		}
		// A long answer is still on its way: as long as the client takes of it, what it
		// sends is read.
		was := untaken
		if untaken = c.untaken(); untaken == 0 || untaken >= was && !now.Before(end) || now.After(last) {
			return
		}
		if untaken < was {
			end = now.Add(lingerTime)
		}
		if c.conn.SetDeadline(end) != nil {
			return
		}
	}
}

// untaken is how many bytes the client's machine has not acknowledged. A close over
// unread bytes would drop them.
func (c *client) untaken() int {
	if c.sock == nil {
		return 0
	}
	n := 0
	err := c.sock.Control(func(fd uintptr) {
		var err error
		if n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
			n = 0 // not a socket that tells
		}
	})
	if err != nil {
		return 0 // it is closed
	}
	return n
}

// reset ends the connection so that it cannot be taken for the end of an answer: without
// a length or chunks nothing else tells.
func (c *client) reset() {
	under := c.conn
	if secure, ok := c.conn.(*tlsConn); ok {
		under = secure.under.Conn // TLS would say goodbye
	}
	if tcp, ok := under.(*net.TCPConn); ok {
		tcp.SetLinger(0) // fails on a closed connection only
	}
	under.Close()
}

const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 64 << 10
	lingerRead  = 2 << 10 // bytes of a read: at the end of a node all its connections may linger
)
