package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// TestDrainCutsWhatIsSilent: a request whose row says nothing does not keep the node from
// its end, nor does one in the middle of its answer or its body.
func TestDrainCutsWhatIsSilent(t *testing.T) {
	for name, sent := range map[string]string{
		"no answer":      get,
		"half an answer": "GET /half HTTP/1.1\r\nHost: h\r\n\r\n",
		"half a body":    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nxx",
	} {
		t.Run(name, func(t *testing.T) {
			entered, release := make(chan struct{}, 1), make(chan struct{})
			defer close(release)
			row := rowBy(t, 1, func(c *speaker) {
				if strings.HasPrefix(c.head(), "GET /half") {
					c.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
				}
				entered <- struct{}{}
				<-release
			})
			p := startLimited(t, Config{DrainTimeout: 200 * time.Millisecond}, patient(row))
			c := call(t, p)
			c.say(sent)
			await(t, entered, "the request")
			began := time.Now()
			p.stop()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the end took %s", took)
			}
			if n := p.InFlight(); len(n) > 0 {
				t.Errorf("in flight at the end: %v", n)
			}
		})
	}
}

// TestHoldHasItsOwnTime: a request that comes just before its connection's idle limit, and
// is held, is not measured by that: its body is taken and its answer comes.
func TestHoldHasItsOwnTime(t *testing.T) {
	idle := 300 * time.Millisecond
	p := startLimited(t, Config{IdleTimeout: idle, Hold: patience}, patient())
	c := call(t, p)
	c.say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
	until(t, "it is held", func() bool { return p.clients.now.Load() > 0 })
	past := time.NewTimer(2 * idle) // the limit that must not hold here
	defer past.Stop()
	<-past.C
	p.SetTable(patient(backend(t, 1, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })))
	c.say("hello")
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("%q", head)
	}
	c.hear("hello")
}

// TestSlowTakersSpoilNoRow: a client that closes its side and takes its answers late costs
// the row nothing: its connection, which is kept, serves the next request.
func TestSlowTakersSpoilNoRow(t *testing.T) {
	const answers = 1500
	body := string(noise(10_000))
	var served atomic.Int64
	gone := 200 * time.Millisecond
	p := startLimited(t, Config{GoneAfter: gone}, patient(backend(t, 1, func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		io.WriteString(w, body)
	})))
	c := call(t, p)
	c.SetReadBuffer(64 << 10)
	c.say(strings.Repeat(get, answers))
	c.CloseWrite()
	var was int64
	until(t, "nothing moves", func() bool { // the client's side is full
		now := served.Load()
		still := now == was && now > 0
		was = now
		past := time.NewTimer(gone + 3*askAgain/2)
		defer past.Stop()
		<-past.C
		return still
	})
	if n, err := io.Copy(io.Discard, c.in); err != nil || n < answers*10_000 {
		t.Errorf("%d bytes came, %v", n, err)
	}
	for range 20 {
		if resp, _ := do(t, "POST", p.url+"/", "x"); resp.StatusCode != 200 {
			t.Errorf("the next: %s", resp.Status)
		}
	}
	if p.heard.count() > 0 {
		t.Errorf("the row is suspected: %v", p.heard.rows)
	}
}

// TestTunnelOutlivesItsHalf: who has closed one side of an upgraded connection hears what
// the other has to say, however long that takes.
func TestTunnelOutlivesItsHalf(t *testing.T) {
	gone := 100 * time.Millisecond
	row := rowBy(t, 1, func(c *speaker) {
		if c.head() == "" {
			return
		}
		c.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if b, err := io.ReadAll(c.in); err != nil || string(b) != "bye" {
			t.Errorf("the row hears %q, %v", b, err)
		}
		past := time.NewTimer(gone + 2*askAgain)
		defer past.Stop()
		<-past.C
		c.say("and bye")
	})
	p := startLimited(t, Config{GoneAfter: gone}, patient(row))
	c := call(t, p)
	c.say("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("%q", head)
	}
	c.say("bye")
	c.CloseWrite()
	if b, err := io.ReadAll(c.in); err != nil || string(b) != "and bye" {
		t.Errorf("the client hears %q, %v", b, err)
	}
}

// TestLongHeadByByte: a head whose last bytes come one by one costs about its bytes, not a
// buffer for each.
func TestLongHeadByByteAllocatesNothing(t *testing.T) {
	const slow = 3000
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, nil)))
	c := call(t, p)
	c.say("GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("y", 40<<10))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range slow {
		c.say("z")
		runtime.Gosched()
	}
	c.say("\r\n\r\n")
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("%q", head)
	}
	runtime.ReadMemStats(&after)
	// Under the race detector a pool drops one in four of what it is given.
	if spent := after.TotalAlloc - before.TotalAlloc; spent > slow<<10 && !raceDetector {
		t.Errorf("%d bytes of memory for %d bytes", spent, slow)
	}
}

// TestNodeWithoutDescriptors: what this machine lacks is no fault of a row: it is not
// passed over, the leader is not told, and the client may come again.
func TestNodeWithoutDescriptors(t *testing.T) {
	h := &heard{}
	p := New(Config{Node: "n1"}, node{&counter{}, "n1"}, h)
	var lacks atomic.Bool
	lacks.Store(true)
	p.dialer.Control = func(string, string, syscall.RawConn) error {
		if lacks.Load() {
			return fmt.Errorf("socket: %w", syscall.EMFILE)
		}
		return nil
	}
	p.SetTable(acts(1, backend(t, 1, nil)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	url := "http://" + l.Addr().String()
	if resp, body := do(t, "GET", url, ""); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "this node has no room") {
		t.Errorf("%s %s", resp.Status, body)
	}
	if h.count() > 0 || p.metrics.ejections.Load() > 0 {
		t.Errorf("the row is suspected: %v", h.rows)
	}
	lacks.Store(false)
	if resp, _ := do(t, "GET", url, ""); resp.StatusCode != 200 {
		t.Errorf("%s", resp.Status)
	}
}

// TestDrainBlamesNoRow: a connection to a row that the end of the node cuts short says
// nothing about the row.
func TestDrainBlamesNoRow(t *testing.T) {
	h := &heard{}
	p := New(Config{Node: "n1", DrainTimeout: 100 * time.Millisecond, DialTimeout: patience}, node{&counter{}, "n1"}, h)
	dials := make(chan struct{}, 8)
	p.dialer.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
		dials <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	p.SetTable(acts(1, backend(t, 1, nil), backend(t, 2, nil)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, get)
	await(t, dials, "the dial")
	cancel()
	if err := await(t, ended, "the end"); err != nil {
		t.Error(err)
	}
	if h.count() > 0 || len(dials) > 0 {
		t.Errorf("suspects %v, %d further dials", h.rows, len(dials))
	}
}

// TestLimitsAreCounted: those that no answer with a status of its own tells of.
func TestLimitsAreCounted(t *testing.T) {
	half := func(c *speaker) {
		if c.head() != "" {
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
			io.Copy(io.Discard, c.in)
		}
	}
	silent := func(c *speaker) { io.Copy(io.Discard, c.in) }
	for name, c := range map[string]struct {
		cfg   Config
		rows  func(*testing.T) []Row
		sent  string
		close bool
		got   string // the beginning of what the client reads
	}{
		"hold":       {cfg: Config{Hold: 50 * time.Millisecond}, sent: honest, got: "HTTP/1.1 503 "},
		"fields":     {cfg: Config{MaxFields: 8}, sent: "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", 9) + "\r\n", got: "HTTP/1.1 431 "},
		"quiet_time": {cfg: Config{QuietTimeout: 200 * time.Millisecond}, rows: func(t *testing.T) []Row { return []Row{rowBy(t, 1, half)} }, sent: get, got: "HTTP/1.1 200 "},
		"dial_time":  {cfg: Config{DialTimeout: 100 * time.Millisecond, Hold: 50 * time.Millisecond}, rows: func(t *testing.T) []Row { return []Row{silentRow(t)} }, sent: honest, got: "HTTP/1.1 502 "},
		"gone_time":  {cfg: Config{GoneAfter: 200 * time.Millisecond}, rows: func(t *testing.T) []Row { return []Row{rowBy(t, 1, silent)} }, sent: get, close: true},
	} {
		t.Run(name, func(t *testing.T) {
			registry := prometheus.NewRegistry()
			c.cfg.Registry = registry
			var rows []Row
			if c.rows != nil {
				rows = c.rows(t)
			}
			p := startLimited(t, c.cfg, patient(rows...))
			client := call(t, p)
			client.say(c.sent)
			if c.close {
				client.CloseWrite()
			}
			if got, err := io.ReadAll(client.in); err != nil && !strings.Contains(err.Error(), "reset") || !strings.HasPrefix(string(got), c.got) {
				t.Errorf("%q, %v", got, err)
			}
			lines(t, registry, fmt.Sprintf(`orch_proxy_limits_total{limit=%q} 1`, name))
		})
	}
}

// silentRow is a row whose address answers nothing: its listener's queue is full.
func silentRow(t *testing.T) Row {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	row := Row{Number: 1, Generation: 1, Addr: fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port), Direct: true}
	c, err := net.Dial("tcp", row.Addr) // the one that has room in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return row
}
