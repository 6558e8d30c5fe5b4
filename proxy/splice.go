package proxy

import (
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// spliceFrom is the rest of a body, in bytes, from which it is moved by splice(2): less
// is copied as fast.
const spliceFrom = 32 << 10

// pipeSize is what one system call may move; a pipe has 64 KiB unless asked.
const pipeSize = 256 << 10

// maxPipes bounds the pipes that are kept: each holds two descriptors.
const maxPipes = 128

// splicer moves bytes between two sockets through a pipe.
type splicer struct {
	r, w   int
	held   int // bytes in the pipe
	want   int
	n      int
	err    error
	faulty bool // an error came in the middle: what is in the pipe is not known
	fill   func(fd uintptr) bool
	unload func(fd uintptr) bool
	went   func() // is told of each part that was taken; may be nil
}

func newSplicer() *splicer {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil // out of descriptors: the body is copied
	}
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize) // refused above a limit of the user: 64 KiB do too
	s := &splicer{r: fds[0], w: fds[1]}
	s.fill = func(fd uintptr) bool { return s.move(int(fd), s.w, s.want) }
	s.unload = func(fd uintptr) bool {
		for s.held > 0 {
			if !s.move(s.r, int(fd), s.held) {
				return false
			}
			if s.err != nil || s.n == 0 {
				return true
			}
			if s.held -= s.n; s.went != nil {
				s.went()
			}
		}
		return true
	}
	return s
}

func (s *splicer) move(from, to, n int) bool {
	for {
		m, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		if s.n, s.err = int(m), err; err != nil {
			s.n, s.faulty = 0, true // m is -1
		}
		return true
	}
}

// in waits for bytes from a socket, and takes at most left of them into the pipe; 0 is
// the end of the stream.
func (s *splicer) in(from syscall.RawConn, left int64) (int, error) {
	s.want, s.n, s.err = int(min(left, pipeSize)), 0, nil
	if err := from.Read(s.fill); err != nil {
		return 0, err
	}
	s.held += s.n
	return s.n, s.err
}

// drainTo writes all that is in the pipe to a socket.
func (s *splicer) drainTo(to syscall.RawConn) error {
	s.err = nil
	if err := to.Write(s.unload); err != nil {
		return err
	}
	if s.err == nil && s.held > 0 {
		return io.ErrShortWrite
	}
	return s.err
}

func (s *splicer) close() {
	unix.Close(s.r)
	unix.Close(s.w)
}

// pipes keeps pipes that are empty.
type pipes struct {
	mu   sync.Mutex
	free []*splicer
}

func (p *pipes) get() *splicer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free) - 1; n >= 0 {
		s := p.free[n]
		p.free = p.free[:n]
		return s
	}
	return newSplicer()
}

func (p *pipes) put(s *splicer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.went = nil
	if s.held != 0 || s.faulty || len(p.free) >= maxPipes {
		s.close()
		return
	}
	p.free = append(p.free, s)
}

func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.free {
		s.close()
	}
	p.free = nil
}
