package proxy

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memory is a connection of a client that has sent all it will send, for net/http's
// server. Its end comes when the server waits for more of a message, not while it
// serves one: net/http would take that for a client that has hung up.
type memory struct {
	in     bytes.Reader
	from   net.IP
	mu     sync.Mutex
	wake   chan struct{} // closed and replaced when the deadline changes
	late   bool          // the read deadline is in the past
	closed chan struct{}
	once   sync.Once
	out    bytes.Buffer
}

func newMemory(from net.IP, in []byte) *memory {
	m := &memory{from: from, wake: make(chan struct{}), closed: make(chan struct{})}
	m.in.Reset(in)
	return m
}

// Read implements net.Conn. Only the watch for a hang-up reads a single byte.
func (m *memory) Read(b []byte) (int, error) {
	for {
		m.mu.Lock()
		late, wake := m.late, m.wake
		var n int
		var err error
		if !late {
			n, err = m.in.Read(b)
		}
		m.mu.Unlock()
		switch {
		case late:
			return 0, os.ErrDeadlineExceeded
		case n > 0 || err == nil || len(b) > 1:
			return n, err
		}
		select {
		case <-m.closed:
			return 0, net.ErrClosed
		case <-wake:
		}
	}
}

func (m *memory) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out.Write(b)
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) SetReadDeadline(t time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.late = !t.IsZero() && !t.After(time.Now())
	close(m.wake)
	m.wake = make(chan struct{})
	return nil
}

func (m *memory) SetDeadline(t time.Time) error    { return m.SetReadDeadline(t) }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }
func (m *memory) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }
func (m *memory) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: m.from, Port: 8} }

// answers waits until the server has closed the connection, and returns what it wrote.
func (m *memory) answers() []byte {
	<-m.closed
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.out.Bytes())
}

// memories is a listener whose connections are put into it.
type memories struct {
	conns chan *memory
	done  chan struct{}
	once  sync.Once
}

func newMemories() *memories { return &memories{conns: make(chan *memory), done: make(chan struct{})} }

// serve hands a client's bytes over and returns the answers to them.
func (l *memories) serve(from net.IP, in []byte) ([]byte, error) {
	m := newMemory(from, in)
	select {
	case l.conns <- m:
		return m.answers(), nil
	case <-l.done:
		return nil, io.ErrClosedPipe
	}
}

func (l *memories) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memories) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memories) Addr() net.Addr { return &net.TCPAddr{} }
