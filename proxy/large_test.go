package proxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// noise is a body that would show a byte that is lost, doubled or misplaced.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestLargeBodies come through whole, both ways, by length and in chunks.
func TestLargeBodies(t *testing.T) { both(t, testLargeBodies) }

func testLargeBodies(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.ContentLength < 0 {
			w.(http.Flusher).Flush() // the answer goes in chunks too
		}
		w.Write(b)
	})))
	for _, size := range []int{1, spliceFrom - 1, spliceFrom + 1, 100_000, 1 << 20} {
		body := noise(size)
		for _, chunked := range []bool{false, true} {
			var r io.Reader = bytes.NewReader(body)
			if chunked {
				r = io.MultiReader(r)
			}
			resp, err := browser.Post(p.url+"/x", "text/plain", r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes, chunked %t: %d came back, %v", size, chunked, len(got), err)
			}
		}
	}
	browser.CloseIdleConnections()
}

// TestSlowReaderIsNotIdle: an answer that takes twice the limit of a pause, but
// never pauses, comes through.
func TestSlowReaderIsNotIdle(t *testing.T) {
	body := noise(8 << 20)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "8388608")
		w.Write(body)
	}))
	t.Cleanup(s.Close)
	source := &counter{}
	p := New(Config{Node: "n1", DrainTimeout: time.Second, BodyTimeout: 2 * time.Second}, node{source, "n1"}, &heard{})
	p.SetTable(acts(1, Row{Number: 1, Generation: 1, Addr: s.Listener.Addr().String(), Direct: true}))
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(32 << 10)
	io.Copy(c, strings.NewReader("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := io.CopyN(&got, resp.Body, 100_000)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("after %d bytes: %v", got.Len(), err)
		}
		<-tick.C
	}
	if !bytes.Equal(got.Bytes(), body) {
		t.Errorf("%d bytes came of %d", got.Len(), len(body))
	}
}
