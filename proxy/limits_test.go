package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// opened is a connection on which one request has been answered.
func opened(t *testing.T, p *lab) (net.Conn, *http.Response) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, resp
}

// TestConnectionsAreBounded: one too many is told so, and there is room again when one has
// gone.
func TestConnectionsAreBounded(t *testing.T) {
	registry := prometheus.NewRegistry()
	p := startLimited(t, Config{MaxConns: 3, Registry: registry}, acts(1, backend(t, 1, nil)))
	var held []net.Conn
	for range 3 {
		c, resp := opened(t, p)
		if resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
		held = append(held, c)
	}
	if _, resp := opened(t, p); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !resp.Close {
		t.Errorf("a fourth: %s %v", resp.Status, resp.Header)
	}
	lines(t, registry, `orch_proxy_limits_total{limit="connections"} 1`, `orch_proxy_connections 3`, `orch_proxy_limit{limit="connections"} 3`)
	held[0].Close()
	lines(t, registry, `orch_proxy_connections 2`)
	if _, resp := opened(t, p); resp.StatusCode != 200 {
		t.Errorf("there is room again: %s", resp.Status)
	}
}

// TestRowsAreBounded: so many requests are in flight on a row, so many wait for it, and
// the next is told to come again; no row ever sees more.
func TestRowsAreBounded(t *testing.T) { both(t, testRowsAreBounded) }

func testRowsAreBounded(t *testing.T) {
	entered, release := make(chan struct{}, 16), make(chan struct{})
	row := backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-release
	})
	registry := prometheus.NewRegistry()
	p := startLimited(t, Config{MaxInFlight: 2, MaxQueue: 1, Hold: patience, Registry: registry}, patient(row))
	var wg sync.WaitGroup
	answers := make(chan int, 16)
	ask := func() {
		wg.Go(func() {
			resp, err := browser.Get(p.url + "/")
			if err != nil {
				answers <- 0
				return
			}
			resp.Body.Close()
			answers <- resp.StatusCode
		})
	}
	ask()
	ask()
	await(t, entered, "the first")
	await(t, entered, "the second")
	ask()
	lines(t, registry, `orch_proxy_waiting{service="acts"} 1`, `orch_proxy_in_flight{generation="1",number="1",service="acts"} 2`)
	resp, body := do(t, "GET", p.url+"/", "")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "busy") {
		t.Errorf("one more than may wait: %s %s", resp.Status, body)
	}
	lines(t, registry, `orch_proxy_limits_total{limit="queue"} 1`)
	select {
	case <-entered:
		t.Error("the row sees more than it may")
	default:
	}
	close(release)
	wg.Wait()
	for range 3 {
		if code := <-answers; code != 200 {
			t.Errorf("one that was taken, or waited: %d", code)
		}
	}
}

// TestIdleConnectionsEnd without a word, and are counted.
func TestIdleConnectionsEnd(t *testing.T) {
	registry := prometheus.NewRegistry()
	p := startLimited(t, Config{IdleTimeout: 200 * time.Millisecond, Registry: registry}, acts(1, backend(t, 1, nil)))
	c, resp := opened(t, p)
	io.Copy(io.Discard, resp.Body)
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	lines(t, registry, `orch_proxy_limits_total{limit="idle_time"} 1`, `orch_proxy_connections 0`)
}

// TestEmptyLinesAreNoRequests: they do not keep a connection, however they come.
func TestEmptyLinesAreNoRequests(t *testing.T) {
	for name, pieces := range map[string][]string{"whole": {"\r\n"}, "in halves": {"\r", "\n"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startLimited(t, Config{IdleTimeout: 250 * time.Millisecond, HeadTimeout: 250 * time.Millisecond}, acts(1, backend(t, 1, nil)))
			c := call(t, p)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			until(t, "it is accepted", func() bool { return p.metrics.conns.Load() > 0 })
			for n := 0; p.metrics.conns.Load() > 0; n++ {
				if _, err := io.WriteString(c, pieces[n%len(pieces)]); err != nil {
					break
				}
				if n > 500 {
					t.Fatal("the connection does not end")
				}
				<-tick.C
			}
		})
	}
}

// TestHandshakesEnd: one that does not come to its end has the time of a head.
func TestHandshakesEnd(t *testing.T) {
	registry := prometheus.NewRegistry()
	p, addr := startSecure(t, Config{HeadTimeout: 200 * time.Millisecond, Registry: registry}, acts(1, backend(t, 1, nil)))
	defer p.stop()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	lines(t, registry, `orch_proxy_limits_total{limit="head_time"} 1`, `orch_proxy_connections 0`)
}

// TestBusyRowsAreCounted: a request that waits in vain for a row with room met its limit.
func TestBusyRowsAreCounted(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	registry := prometheus.NewRegistry()
	p := startLimited(t, Config{MaxInFlight: 1, Hold: 50 * time.Millisecond, Registry: registry}, patient(backend(t, 1, func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	})))
	c := call(t, p)
	c.say(get)
	await(t, entered, "the first request")
	if resp, body := do(t, "GET", p.url+"/", ""); resp.StatusCode != 503 || !strings.Contains(body, "busy") {
		t.Errorf("%s %s", resp.Status, body)
	}
	lines(t, registry, `orch_proxy_limits_total{limit="in_flight"} 1`)
	close(release)
	c.head()
}

// TestBodiesThatTrickle: one that is never silent for long, but comes at a byte now and
// then, is ended with 408.
func TestBodiesThatTrickle(t *testing.T) {
	registry := prometheus.NewRegistry()
	p := startLimited(t, Config{MinBodyRate: 1000, MinBodyAfter: 100 * time.Millisecond, Registry: registry}, patient(backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	})))
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n")
	stop := make(chan struct{})
	var trickling sync.WaitGroup
	trickling.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := c.Write([]byte{'x'}); err != nil {
					return
				}
			}
		}
	})
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	close(stop)
	trickling.Wait()
	if err != nil || resp.StatusCode != 408 {
		t.Fatalf("%v, %v", resp, err)
	}
	lines(t, registry, `orch_proxy_limits_total{limit="body_time"} 1`)
}

// TestSlowSenders: a thousand who send a byte now and then keep nobody else waiting.
// How long others wait is measured by make bench-proxy (load slow).
func TestSlowSenders(t *testing.T) {
	senders := 1000
	if raceDetector {
		senders = 300
	}
	p := startLimited(t, Config{HeadTimeout: time.Minute}, acts(1, backend(t, 1, nil)))
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	for range senders {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		fmt.Fprint(c, "GET / HTTP/1.1\r\n")
	}
	stop := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				conns[i%senders].Write([]byte("X"))
			}
			if i%senders == 0 {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}
	})
	var took []time.Duration
	for range 500 {
		began := time.Now()
		if resp, body := do(t, "GET", p.url+"/", ""); resp.StatusCode != 200 {
			t.Errorf("%s %s", resp.Status, body)
		}
		took = append(took, time.Since(began))
	}
	close(stop)
	sending.Wait()
	slices.Sort(took)
	if p99 := took[len(took)*99/100]; p99 > 5*time.Second {
		t.Errorf("others wait %s", p99)
	}
}
