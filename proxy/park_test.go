package proxy

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestParkedConnectionsHoldNoBuffer: a thousand connections that have been served, and
// wait, take a few KiB each.
func TestParkedConnectionsHoldNoBuffer(t *testing.T) {
	const most = 6 << 10 // bytes each: of both ends, and what the poller keeps
	p := start(t, "n1", &counter{}, acts(1, cannedRow(t, 1)))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // of what pools held on to over the first
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	before := heap()
	buf := make([]byte, 4<<10)
	for range 1000 {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, get)
		for n := 0; !bytes.HasSuffix(buf[:n], []byte("hello")); {
			m, err := c.Read(buf[n:])
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
	}
	until(t, "no buffer is held", func() bool { return heap() < before+uint64(len(conns))*most })
}
