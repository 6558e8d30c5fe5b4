package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of these tests: far more than a loaded machine needs.
const patience = 20 * time.Second

// speaker is one end of a connection that a test speaks by hand.
type speaker struct {
	*net.TCPConn
	in *bufio.Reader
	t  testing.TB
}

func newSpeaker(t testing.TB, c net.Conn) *speaker {
	c.SetDeadline(time.Now().Add(patience))
	return &speaker{c.(*net.TCPConn), bufio.NewReader(c), t}
}

// call opens a client's connection to a proxy.
func call(t *testing.T, p *lab) *speaker {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return newSpeaker(t, c)
}

// say writes text; a failure shows in what is read next.
func (w *speaker) say(text string) { io.WriteString(w, text) }

// head reads the next head, to its empty line; "" at the end of the connection.
func (w *speaker) head() string {
	var b strings.Builder
	for {
		line, err := w.in.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			if b.Len() > 0 {
				w.t.Errorf("a head ends in its middle: %q, %v", b.String(), err)
			}
			return ""
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

// hear reads exactly the given text.
func (w *speaker) hear(text string) bool {
	w.t.Helper()
	b := make([]byte, len(text))
	n, err := io.ReadFull(w.in, b)
	if string(b[:n]) != text {
		w.t.Errorf("heard %q (%v), want %q", b[:n], err, text)
	}
	return string(b[:n]) == text
}

// ended says whether the other side closes without another byte.
func (w *speaker) ended() bool {
	w.t.Helper()
	b, err := io.ReadAll(w.in)
	if e, ok := err.(net.Error); ok && e.Timeout() || len(b) > 0 {
		w.t.Errorf("%q comes where the end should: %v", b, err)
		return false
	}
	return true
}

// rowBy is a row whose connections are served by hand, each by a goroutine that is
// waited for at the end of the test.
func rowBy(t *testing.T, number int, serve func(*speaker)) Row {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return rowOn(t, l, number, serve)
}

// rowOn is rowBy with a listener of its own.
func rowOn(t *testing.T, l net.Listener, number int, serve func(*speaker)) Row {
	t.Helper()
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(newSpeaker(t, c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return Row{Number: number, Generation: 1, Node: "n1", Addr: l.Addr().String(), Direct: true}
}

// startLimited runs a proxy with limits of its own.
func startLimited(t *testing.T, cfg Config, table Table) *lab {
	t.Helper()
	cfg.Node, cfg.NetHTTP = "n1", reference
	return startWith(t, cfg, &counter{}, table)
}

// patient is a table whose service has no limit on the time of an answer.
func patient(rows ...Row) Table {
	table := acts(1, rows...)
	table.Services[0].Timeout = 0
	table.Services[0].DebugHeaders = false
	return table
}

// await waits for an event of the other side of the proxy.
func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s does not come", what)
		panic("unreachable")
	}
}
