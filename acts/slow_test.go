package acts

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"orch/scripts/local"
)

// dialed is a connection on which a request is written by hand.
func dialed(t testing.TB, url string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c.(*net.TCPConn)
}

// head of an upload of n bytes.
func head(n int) string {
	return fmt.Sprintf("POST /api/v1/acts HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", n)
}

// TestABodyThatStops is answered 408 and its connection ends, small or large.
func TestABodyThatStops(t *testing.T) {
	dir := t.TempDir()
	s := opened(t, Config{Data: dir})
	s.idleBody = 200 * time.Millisecond
	url := serving(t, s).URL
	for _, x := range []struct {
		path string
		n    int
	}{{"/api/v1/acts", 1000}, {"/api/v1/acts", 5 << 20}, {"/api/v1/acts/upvote", 1000}, {"/api/v1/users", 1000}, {"/api/v1/categories", 1000}} {
		c := dialed(t, url)
		fmt.Fprint(c, strings.Replace(head(x.n), "/api/v1/acts", x.path, 1)+strings.Repeat(" ", x.n/2))
		from := bufio.NewReader(c)
		resp, err := http.ReadResponse(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(b), "too slowly") || !resp.Close {
			t.Errorf("%s, %d bytes: %s %s, closed: %t", x.path, x.n, resp.Status, b, resp.Close)
		}
		if _, err := from.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s, %d bytes: the connection goes on: %v", x.path, x.n, err)
		}
	}
	for _, start := range []string{"POST /nothing", "PUT /api/v1/acts", "GET /api/v1/categories", "DELETE /api/v1/acts/1", "POST /api/v1/_crash", "GET /"} { // nobody reads these bodies
		c := dialed(t, url)
		fmt.Fprint(c, start+" HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
		from := bufio.NewReader(c)
		if resp, err := http.ReadResponse(from, nil); err == nil {
			io.Copy(io.Discard, resp.Body)
		}
		if _, err := from.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the connection goes on: %v", start, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "uploads", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestWhoDoesNotRead a list or a photo is cut off; the next request of the connection
// before it had time of its own.
func TestWhoDoesNotRead(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	s.metrics.slowReader = 400 * time.Millisecond
	ended := make(chan string, 10)
	url := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			ended <- r.URL.Path
			if e := recover(); e != nil {
				panic(e)
			}
		}()
		s.ServeHTTP(w, r)
	})).URL
	settled(t, url)
	for id := range 3 {
		if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", noisyAct(id, maxPhoto)); status != 201 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	for len(ended) > 0 {
		<-ended
	}
	for _, path := range []string{"/api/v1/categories/green/acts", "/api/v1/acts/1/image"} {
		c := dialed(t, url)
		from := bufio.NewReader(c)
		for range 2 { // the deadline of one is not that of the next
			fmt.Fprint(c, "GET /api/v1/_health HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp, err := http.ReadResponse(from, nil); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v, %v", resp, err)
			}
			<-ended
		}
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: who does not read is waited for", path)
		}
		resp, err := http.ReadResponse(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d bytes came, then %v", path, n, err)
		}
	}
	if n := count(t, s, "acts_requests_total", "code=499"); n != 2 {
		t.Errorf("%v are counted as not read", n)
	}
}

// TestWhoLeavesBeforeTheAnswer is no failure of the service.
func TestWhoLeavesBeforeTheAnswer(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	settled(t, url)
	path := stocked(t, s, 1, held(t, 80, 60, 1), "")[0] + "?w=64"
	s.shrinking <- struct{}{} // another is being made all the time
	c := dialed(t, url)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	c.Close()
	const route = "route=/api/v1/acts/{actId}/image"
	for deadline := time.Now().Add(10 * time.Second); count(t, s, "acts_requests_total", route) < 1; {
		if time.Now().After(deadline) {
			t.Fatal("who has left is waited for")
		}
	}
	if n := count(t, s, "acts_requests_total", "code=499"); n != 1 {
		t.Errorf("%v are counted as gone", n)
	}
}

// TestTermination: SIGTERM lets the request in flight finish, takes no more, and ends
// the process with 0.
func TestTermination(t *testing.T) {
	metrics := local.FreeAddr(t)
	p := start(t, program(t), nil, "--data", t.TempDir(), "--metrics", metrics)
	settled(t, p.url)
	http.DefaultClient.CloseIdleConnections()
	body := noisyAct(1, 500<<10)
	c := dialed(t, p.url)
	fmt.Fprint(c, head(len(body))+body[:len(body)/2])
	for deadline := time.Now().Add(5 * time.Second); ; { // net/http drops a request whose head it has not read when it is told to end
		if _, text, _ := ask(t, "http://"+metrics, "GET", "/metrics", ""); strings.Contains(text, "\nacts_requests_in_flight 1\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the request is not in flight")
		}
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	for deadline := time.Now().Add(5 * time.Second); ; { // until it listens no more
		x, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			break
		}
		x.Close()
		if time.Now().After(deadline) {
			t.Fatal("it goes on listening")
		}
	}
	fmt.Fprint(c, body[len(body)/2:])
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 201 {
		t.Errorf("the request in flight: %v, %v", resp, err)
	}
	begin := time.Now()
	p.wait()
	if took := time.Since(begin); took > shutdownTimeout-time.Second {
		t.Errorf("it ended %s after its last answer", took)
	}
}

// TestMetrics are on a port of their own and name routes, not paths.
func TestMetrics(t *testing.T) {
	addr := local.FreeAddr(t)
	p := start(t, program(t), nil, "--data", t.TempDir(), "--metrics", addr)
	settled(t, p.url)
	for _, path := range []string{"/api/v1/acts/1/image", "/api/v1/acts/2/image", "/api/v1/nothing", "/metrics"} {
		if status, _, _ := ask(t, p.url, "GET", path, ""); status != 404 {
			t.Errorf("%s: %d", path, status)
		}
	}
	ask(t, p.url, "BREW", "/api/v1/users", "")
	status, text, _ := ask(t, "http://"+addr, "GET", "/metrics", "")
	if status != 200 {
		t.Fatal(status)
	}
	for _, want := range []string{
		`acts_requests_total{code="201",method="POST",route="/api/v1/users"} 1`,
		`acts_requests_total{code="404",method="GET",route="/api/v1/acts/{actId}/image"} 2`,
		`acts_requests_total{code="404",method="GET",route=""} 2`,
		`acts_requests_total{code="405",method="other",route="/api/v1/users"} 1`,
		`acts_request_duration_seconds_count{route="/api/v1/categories"} 1`,
		`acts_requests_in_flight 0`, "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("there is no %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	if status, _, _ := ask(t, "http://"+addr, "GET", "/api/v1/users", ""); status != 404 {
		t.Errorf("the API is served there: %d", status)
	}
	http.DefaultClient.CloseIdleConnections()
}
