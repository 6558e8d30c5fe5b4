package proxy

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
)

// cannedRow answers every head it reads with the same bytes and allocates nothing.
func cannedRow(t testing.TB, number int) Row {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				buf := make([]byte, 4<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return Row{Number: number, Generation: 1, Addr: l.Addr().String(), Direct: true}
}

// visitor sends one request after the other over one connection and allocates nothing.
func visitor(t testing.TB, p *lab, request string) (visit func()) {
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	sent, answers := []byte(request), strings.Count(request, " HTTP/1.1\r\n")
	buf := make([]byte, 4<<10)
	return func() {
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		for n := 0; bytes.Count(buf[:n], []byte("hello")) < answers; {
			m, err := c.Read(buf[n:])
			if err != nil && err != io.EOF || m == 0 {
				t.Fatalf("%q, %v", buf[:n], err)
			}
			n += m
		}
	}
}

// TestRequestAllocatesNothing in steady state, from end to end. What is left is the
// keeper's: a lease each 50 ms, whatever the number of requests.
func TestRequestAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	for name, request := range map[string]string{
		"GET":         "GET /api/v1/photos HTTP/1.1\r\nHost: h\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
		"small POST":  "POST /api/v1/acts HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\n\r\n\r\n",
		"two at once": "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		p := start(t, "n1", &counter{}, acts(1, cannedRow(t, 1), cannedRow(t, 2), cannedRow(t, 3)))
		visit := visitor(t, p, request)
		for range 2000 {
			visit()
		}
		if n := perRun(20_000, visit); n > 0.05 {
			t.Errorf("%s: %v allocations a visit", name, n)
		}
		p.stop()
	}
}

// perRun is testing.AllocsPerRun less its rounding down.
func perRun(runs int, f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(runs)
}

// TestPickAllocatesNothing: nor does the pick alone, also where the first choice is out.
func TestPickAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	s := picked()
	s.rows[1].drain()
	if n := perRun(100_000, func() {
		turn, _ := s.turns.spend()
		s.pick(turn, nil).settle()
	}); n > 0.01 {
		t.Errorf("%v allocations a pick", n)
	}
}

// BenchmarkRequest is a request from end to end: a client, the proxy and a row in this
// process, over loopback.
func BenchmarkRequest(b *testing.B) {
	p := start(b, "n1", &counter{}, acts(1, cannedRow(b, 1), cannedRow(b, 2), cannedRow(b, 3)))
	visit := visitor(b, p, "GET /api/v1/photos HTTP/1.1\r\nHost: h\r\nUser-Agent: bench\r\nAccept: */*\r\nCookie: a=b\r\n\r\n")
	for range 100 {
		visit()
	}
	b.ReportAllocs()
	for b.Loop() {
		visit()
	}
}
