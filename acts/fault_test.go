package acts

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestPanic is logged with its stack and answered as any error; an answer that has begun
// is cut off.
func TestPanic(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	var log bytes.Buffer
	s.log = slog.New(slog.NewJSONHandler(&log, nil))
	begins := false
	s.mux.handle("GET", "/api/v1/panics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"x"`)
		if begins {
			fmt.Fprint(w, strings.Repeat("x", 10_000))
		}
		panic("a fault of ours")
	})
	url := serving(t, s).URL
	status, answer, h := ask(t, url, "GET", "/api/v1/panics", "")
	if status != 500 || !strings.Contains(answer, `"code":500`) || strings.Contains(answer, "a fault of ours") || h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("ETag") != "" {
		t.Errorf("%d %s %v", status, answer, h)
	}
	var said struct{ Level, Reason, Path, Stack string }
	if err := json.Unmarshal(log.Bytes(), &said); err != nil || said.Level != "ERROR" || said.Reason != "a fault of ours" || said.Path != "/api/v1/panics" || !strings.Contains(said.Stack, "fault_test.go") {
		t.Errorf("logged %s, %v", log.Bytes(), err)
	}
	begins = true
	resp, err := http.Get(url + "/api/v1/panics")
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("an answer that broke off looks whole")
	}
	if status, _, _ := ask(t, url, "GET", "/api/v1/_health", ""); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

// TestGraceEnds: a request that takes longer than the grace is cut off, which is told
// and is no failure of the process.
func TestGraceEnds(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	var log bytes.Buffer
	s.log, s.grace = slog.New(slog.NewJSONHandler(&log, nil)), 50*time.Millisecond
	arrived, left := make(chan struct{}), make(chan struct{})
	s.mux.handle("GET", "/api/v1/waits", func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		for deadline := time.Now().Add(cutTimeout / 2); s.inside.TryAcquire(1) && time.Now().Before(deadline); { // until it is waited for
			s.inside.Release(1)
		}
		close(left)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.run(ctx, l, nil) }()
	c := dialed(t, "http://"+l.Addr().String())
	fmt.Fprint(c, "GET /api/v1/waits HTTP/1.1\r\nHost: a\r\n\r\n")
	<-arrived
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	late := httptest.NewRecorder() // a request whose head was read when the container ended
	s.ServeHTTP(late, httptest.NewRequest("GET", "/api/v1/categories", nil))
	if late.Code != 503 || late.Header().Get("Retry-After") == "" || late.Header().Get("Connection") != "close" || !strings.Contains(late.Body.String(), "this container ends") {
		t.Errorf("a late request: %d %s %v", late.Code, late.Body, late.Header())
	}
	select {
	case <-left:
	default:
		t.Error("it ended before what it was doing")
	}
	if !strings.Contains(log.String(), `"WARN"`) || !strings.Contains(log.String(), "cut off") {
		t.Errorf("logged %s", log.String())
	}
}

// TestCacheIsBounded by all that it holds, not by bodies alone.
func TestCacheIsBounded(t *testing.T) {
	c := newCache(1 << 20)
	for i := range 100_000 {
		c.put(fmt.Sprintf("photo without a byte %d", i), nil, nil)
	}
	if n := c.order.Len(); n > 1<<20/entryCost || n != len(c.items) || c.size > c.limit {
		t.Errorf("%d entries, %d keys, %d bytes of %d", n, len(c.items), c.size, c.limit)
	}
	if _, ok := c.get("photo without a byte 99999"); !ok {
		t.Error("the last one is not there")
	}
}
