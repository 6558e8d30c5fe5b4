package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"unsafe"
)

// rowConn is a connection to a row.
type rowConn struct {
	*net.TCPConn
	raw   syscall.RawConn
	used  int64 // tick at which it became idle
	fresh bool  // it has had no answer yet

	// Of the round trip that is under way.
	out, in  []byte
	wrote, n int
	err      error
	asked    bool
	step     func(fd uintptr) bool
}

// errStale says that an idle connection may not be used: it was closed, or something
// came that nobody had asked for.
var errStale = errors.New("the idle connection is of no use")

// connect opens a connection to a row. What only this machine lacks, descriptors or ports,
// is no fault of the row.
func (p *Proxy) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := p.dialer.DialContext(ctx, network, addr)
	if err == nil {
		return c, nil
	}
	for _, lack := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, lack) {
			return nil, errNode
		}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() == nil {
		p.metrics.met(limitDial)
		err = &net.OpError{Op: "dial", Net: network, Err: errSilent} // to be told from an answer that is late
	}
	return nil, err
}

var errSilent = errors.New("its address is silent")

func (p *Proxy) dial(ctx context.Context, addr string) (*rowConn, error) {
	c, err := p.connect(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to a row: %w", err)
	}
	tcp := c.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		tcp.Close()
		return nil, fmt.Errorf("connect to a row: %w", err)
	}
	rc := &rowConn{TCPConn: tcp, raw: raw, fresh: true}
	rc.step = rc.exchange
	return rc, nil
}

// roundTrip sends out and reads the first bytes of the answer into in. Before it sends,
// it sees that nothing waits to be read: what came unasked would be taken for the
// answer. That look, the request and the answer are one wait of the runtime's poller,
// which spares the read that would find nothing yet.
func (c *rowConn) roundTrip(out, in []byte) (n int, err error) {
	c.out, c.in, c.wrote, c.n, c.err, c.asked = out, in, 0, 0, nil, false
	err = c.raw.Read(c.step)
	if err == nil {
		err = c.err
	}
	n = c.n
	c.out, c.in, c.err = nil, nil, nil
	if err == syscall.EAGAIN { // the socket is full: the poller's way
		m, werr := c.Write(out[c.wrote:])
		c.wrote += m
		if werr != nil {
			return 0, werr
		}
		n, err = c.Read(in)
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// exchange is called by the poller until it returns true.
func (c *rowConn) exchange(fd uintptr) bool {
	if !c.asked {
		c.asked = true
		if _, err := recv(fd, c.in[:1], syscall.MSG_PEEK); err != syscall.EAGAIN {
			c.err = errStale
			return true
		}
		n, err := send(fd, c.out, 0)
		c.wrote = n
		if err == 0 && n == len(c.out) {
			return false
		}
		if c.err = syscall.EAGAIN; err != 0 && err != syscall.EAGAIN {
			c.err = err
		}
		return true
	}
	n, err := recv(fd, c.in, 0)
	if err == syscall.EAGAIN {
		return false
	}
	if c.n = n; err != 0 {
		c.err = err
	}
	return true
}

// clean says whether nothing waits to be read, so that the connection may be used.
func (c *rowConn) clean() bool { return nothingWaits(c.raw) }

// nothingWaits says whether a socket has nothing to be read, no end and no error either.
func nothingWaits(raw syscall.RawConn) bool {
	var b [1]byte
	ok := false
	err := raw.Control(func(fd uintptr) {
		_, err := recv(fd, b[:], syscall.MSG_PEEK)
		ok = err == syscall.EAGAIN
	})
	return err == nil && ok
}

// recv and send never block: they are too short to tell the scheduler of.

func recv(fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags|syscall.MSG_DONTWAIT, 0, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != 0 {
			return 0, err
		}
		return int(n), 0
	}
}

func send(fd uintptr, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, err := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags|syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != 0 {
			return 0, err
		}
		return int(n), 0
	}
}
