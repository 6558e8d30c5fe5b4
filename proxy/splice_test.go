package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sized is a row that answers with body, whose length it gives, or with what it was sent.
func sized(t *testing.T, body []byte) Row {
	return backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		out := body
		if r.Method == http.MethodPost {
			var err error
			if out, err = io.ReadAll(r.Body); err != nil {
				return // it was cut off
			}
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(out)))
		w.Write(out)
	})
}

// pipesKept is how many pipes wait for the next body, each of them empty.
func pipesKept(t *testing.T, p *lab) int {
	t.Helper()
	p.pipes.mu.Lock()
	defer p.pipes.mu.Unlock()
	for _, s := range p.pipes.free {
		if n, err := unix.IoctlGetInt(s.r, unix.TIOCINQ); err != nil || n != 0 || s.held != 0 || s.faulty {
			t.Errorf("a pipe is kept that holds %d bytes, by its own count %d (faulty: %t), %v", n, s.held, s.faulty, err)
		}
	}
	return len(p.pipes.free)
}

// TestLargeBodiesAreSpliced: they go through a pipe, both ways, which is kept for the next.
func TestLargeBodiesAreSpliced(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		p := start(t, "n1", &counter{}, acts(1, sized(t, noise(512<<10))))
		sent := ""
		if method == "POST" {
			sent = string(noise(512 << 10))
		}
		if resp, body := do(t, method, p.url+"/x", sent); resp.StatusCode != 200 || body != string(noise(512<<10)) {
			t.Errorf("%s: %s, %d bytes", method, resp.Status, len(body))
		}
		until(t, method+": a pipe was used", func() bool { return pipesKept(t, p) > 0 })
		p.stop()
	}
}

// TestPipesOutliveResets: bodies that break off in their middle, by either side, leave
// nothing in a pipe and nothing amiss in the count of it: the next large body, through the
// same proxy, is whole.
func TestPipesOutliveResets(t *testing.T) {
	body := noise(700_000)
	table := acts(1, sized(t, body))
	cut := rowBy(t, 1, func(c *speaker) { // answers half, then resets
		if c.head() != "" {
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 700000\r\n\r\n")
			c.Write(body[:300_000])
			c.SetLinger(0)
		}
	})
	table.Services = append(table.Services, table.Services[0])
	table.Services[1].Name, table.Services[1].Routes, table.Services[1].Rows = "cut", []string{"/cut"}, []Row{cut}
	p := start(t, "n1", &counter{}, table)
	for range 5 {
		c := call(t, p)
		c.say("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n")
		c.Write(body[:200_000])
		c.SetLinger(0)
		c.Close()
		c = call(t, p)
		c.say("GET /cut HTTP/1.1\r\nHost: h\r\n\r\n")
		if got, err := io.ReadAll(c.in); err == nil && len(got) > 700_000 {
			t.Errorf("%d bytes of half an answer", len(got))
		}
		for range 3 {
			if resp, got := do(t, "GET", p.url+"/x", ""); resp.StatusCode != 200 || got != string(body) {
				t.Fatalf("%s, %d bytes of %d, or not the same", resp.Status, len(got), len(body))
			}
			if resp, got := do(t, "POST", p.url+"/x", string(body)); resp.StatusCode != 200 || got != string(body) {
				t.Fatalf("%s, %d bytes of %d came back, or not the same", resp.Status, len(got), len(body))
			}
		}
	}
	p.stop()
	pipesKept(t, p)
}

// TestSplicerCountsNoErrors: an error takes nothing off the count of the pipe, and a pipe
// that has seen one is not kept.
func TestSplicerCountsNoErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far.(*net.TCPConn).SetLinger(0)
	far.Close()
	s := newSplicer()
	if n, err := s.in(sock(near), 1<<20); n != 0 || err == nil || s.held != 0 {
		t.Errorf("%d bytes, %v; the pipe holds %d", n, err, s.held)
	}
	var kept pipes
	kept.put(s)
	if len(kept.free) != 0 {
		t.Error("it is kept")
	}
}

// TestSplicedBodyThenRequest: what comes right behind a large body is the next request, and
// what comes behind a large answer is the next answer.
func TestSplicedBodyThenRequest(t *testing.T) {
	body := noise(100_000)
	p := start(t, "n1", &counter{}, acts(1, sized(t, body)))
	c := call(t, p)
	var sent bytes.Buffer
	for range 20 {
		fmt.Fprintf(&sent, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		sent.WriteString("GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	go c.Write(sent.Bytes())
	for i := range 40 {
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") {
			t.Fatalf("answer %d: %q", i, head)
		}
		got := make([]byte, len(body))
		if _, err := io.ReadFull(c.in, got); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("answer %d is not what it should be, %v", i, err)
		}
	}
}
