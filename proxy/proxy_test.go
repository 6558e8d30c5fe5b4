package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"orch/scripts/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counter is a real turn counter in this process: what the cluster is, less the log.
type counter struct {
	mu      sync.Mutex
	turn    uint64
	served  uint64
	last    map[string]uint64 // sequence of each proxy
	run     map[string]uint64
	failing atomic.Bool
	delay   time.Duration
}

type node struct {
	*counter
	name string
}

func (n node) Take(ctx context.Context, r TakeRequest) (uint64, error) {
	if n.failing.Load() {
		return 0, errors.New("no quorum")
	}
	if n.delay > 0 {
		select {
		case <-time.After(n.delay):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last, n.run = map[string]uint64{}, map[string]uint64{}
	}
	if n.last[n.name] == r.Seq {
		return n.run[n.name], nil
	}
	from := n.turn
	n.last[n.name], n.run[n.name] = r.Seq, from
	n.turn += uint64(r.Count)
	n.served += r.Served
	return from, nil
}

// heard remembers suspects.
type heard struct {
	mu   sync.Mutex
	rows []string
}

func (h *heard) Suspect(service string, number int, generation uint64, _ string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rows = append(h.rows, fmt.Sprintf("%s/%d-%d", service, number, generation))
}

func (h *heard) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.rows)
}

// reference makes start use net/http's path.
var reference bool

// both runs a test on the proxy's own path and on net/http's.
func both(t *testing.T, test func(*testing.T)) {
	for _, on := range []bool{false, true} {
		name := "own"
		if on {
			name = "nethttp"
		}
		t.Run(name, func(t *testing.T) {
			reference = on
			defer func() { reference = false }()
			test(t)
		})
	}
}

// lab is a proxy before backends of this process.
type lab struct {
	*Proxy
	url   string
	heard *heard
	stop  func()
}

func start(t testing.TB, name string, source *counter, table Table) *lab {
	t.Helper()
	return startWith(t, Config{Node: name, Hold: 200 * time.Millisecond, NetHTTP: reference}, source, table)
}

// startWith runs a proxy, after what is to be done to it before.
func startWith(t testing.TB, cfg Config, source *counter, table Table, before ...func(*Proxy)) *lab {
	t.Helper()
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, 2*time.Second)
	l := &lab{heard: &heard{}}
	l.Proxy = New(cfg, node{source, cfg.Node}, l.heard)
	for _, f := range before {
		f(l.Proxy)
	}
	l.SetTable(table)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, listener) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// backend answers with its number, and as f says where that is given.
func backend(t *testing.T, number int, f http.HandlerFunc) Row {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f != nil {
			f(w, r)
			return
		}
		if r.URL.Path == "/health" {
			return
		}
		fmt.Fprint(w, number)
	}))
	t.Cleanup(s.Close)
	return Row{Number: number, Generation: 1, Node: "n1", Addr: s.Listener.Addr().String(), Direct: true}
}

func rows(t *testing.T, n int) []Row {
	var out []Row
	for i := range n {
		out = append(out, backend(t, i+1, nil))
	}
	return out
}

func acts(index uint64, rows ...Row) Table {
	return Table{Index: index, Services: []Service{{
		Name: "acts", Routes: []string{"/"}, Mode: "leased", Rows: rows, HealthPath: "/health", DebugHeaders: true,
		Uncounted: []string{"/api/v1/_"}, MaxBody: 1 << 20, Timeout: 2 * time.Second,
	}}}
}

var browser = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: 10 * time.Second}

func do(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(browser.CloseIdleConnections)
	return resp, string(b)
}

// TestExactSequence: one client, one node: each row in its turn.
func TestExactSequence(t *testing.T) { both(t, testExactSequence) }

func testExactSequence(t *testing.T) {
	for _, mode := range []string{"leased", "exact"} {
		table := acts(1, rows(t, 3)...)
		table.Services[0].Mode = mode
		p := start(t, "n1", &counter{}, table)
		var got string
		for range 12 {
			resp, body := do(t, "GET", p.url+"/api/v1/x", "")
			got += body
			if source := resp.Header.Get("X-Orch-Turn"); !strings.HasSuffix(source, mode) {
				t.Errorf("turn %q, want %s", source, mode)
			}
		}
		if got != "123123123123" {
			t.Errorf("%s: rows %s", mode, got)
		}
	}
}

// TestSharesOverThreeNodes: whatever three nodes serve at once, each row gets its
// share, ± 7 leased and ± 1 exact, and every request is counted once.
func TestSharesOverThreeNodes(t *testing.T) { both(t, testSharesOverThreeNodes) }

func testSharesOverThreeNodes(t *testing.T) {
	for mode, slack := range map[string]int{"leased": 7, "exact": 1} {
		t.Run(mode, func(t *testing.T) {
			table := acts(1, rows(t, 5)...)
			table.Services[0].Mode = mode
			source := &counter{delay: 2 * time.Millisecond}
			const total = 6000
			var mu sync.Mutex
			shares := map[string]int{}
			var nodes []*lab
			var wg sync.WaitGroup
			for i := range 3 {
				p := start(t, fmt.Sprintf("n%d", i+1), source, table)
				nodes = append(nodes, p)
				var left atomic.Int64
				left.Store(total / 3)
				for range 8 {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							_, body := do(t, "GET", p.url+"/api/v1/x", "")
							mu.Lock()
							shares[body]++
							mu.Unlock()
						}
					})
				}
			}
			wg.Wait()
			for row, got := range shares {
				if d := got - total/5; d > slack || d < -slack {
					t.Errorf("row %s answered %d, want %d ± %d: %v", row, got, total/5, slack, shares)
				}
			}
			for _, p := range nodes {
				p.stop()
			}
			if source.served != total {
				t.Errorf("%d requests were reported, %d were sent", source.served, total)
			}
		})
	}
}

// TestCountsWhatScalingCounts: paths of the API, whatever their outcome, but for those
// left out.
func TestCountsWhatScalingCounts(t *testing.T) { both(t, testCountsWhatScalingCounts) }

func testCountsWhatScalingCounts(t *testing.T) {
	source := &counter{}
	p := start(t, "n1", source, acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			w.WriteHeader(http.StatusTeapot)
		}
	})))
	for _, path := range []string{"/", "/page", "/api/v1/acts", "/api/v1/none", "/api/v1/_health", "/api/v1/_count"} {
		do(t, "GET", p.url+path, "")
	}
	p.stop()
	if source.served != 2 {
		t.Errorf("%d requests counted, want 2", source.served)
	}
}

// TestLocalTurnsWithoutQuorum: requests go on at once, say so, and the count of what
// was served meanwhile is not lost.
func TestLocalTurnsWithoutQuorum(t *testing.T) { both(t, testLocalTurnsWithoutQuorum) }

func testLocalTurnsWithoutQuorum(t *testing.T) {
	source := &counter{}
	p := start(t, "n1", source, acts(1, rows(t, 3)...))
	do(t, "GET", p.url+"/api/v1/x", "")
	source.failing.Store(true)
	var last string
	for range 30 {
		resp, _ := do(t, "GET", p.url+"/api/v1/x", "")
		last = resp.Header.Get("X-Orch-Turn")
	}
	if !strings.HasSuffix(last, "local") {
		t.Errorf("turn %q without a quorum", last)
	}
	if s := p.Status(); len(s) != 1 || s[0].Source != Local || s[0].Since.IsZero() {
		t.Errorf("status %+v", s)
	}
	source.failing.Store(false)
	deadline := time.Now().Add(5 * time.Second)
	for !strings.HasSuffix(last, "leased") {
		if time.Now().After(deadline) {
			t.Fatalf("turn %q after the quorum came back", last)
		}
		resp, _ := do(t, "GET", p.url+"/other", "")
		last = resp.Header.Get("X-Orch-Turn")
	}
	p.stop()
	if source.served != 31 {
		t.Errorf("%d requests counted, want 31", source.served)
	}
}

// TestRetries: what may go to another row does, what may not does not.
func TestRetries(t *testing.T) { both(t, testRetries) }

func testRetries(t *testing.T) {
	closed := func(number int) Row {
		return Row{Number: number, Generation: 1, Addr: local.FreeAddr(t), Direct: true}
	}
	hangup := func(number int) Row { // takes the request and hangs up
		return backend(t, number, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/health" {
				return
			}
			io.Copy(io.Discard, r.Body)
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
		})
	}
	crashed := func(number int) Row {
		return backend(t, number, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	}
	failing := func(number int) Row { // a bug of the service, not a crash
		return backend(t, number, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/health" {
				w.WriteHeader(500)
			}
		})
	}
	older := func(number int) Row { // as failing, with its health API elsewhere
		row := backend(t, number, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/older" {
				w.WriteHeader(500)
			}
		})
		row.HealthPath = "/older"
		return row
	}
	for _, c := range []struct {
		name, method, body string
		first              func(int) Row
		want               int
		suspect            bool
	}{
		{"GET, not connected", "GET", "", closed, 200, true},
		{"POST, not connected", "POST", "body", closed, 200, true},
		{"GET, cut off", "GET", "", hangup, 200, true},
		{"POST, cut off", "POST", "body", hangup, 502, true},
		{"PUT with a body, cut off", "PUT", "body", hangup, 502, true},
		{"GET, crashed", "GET", "", crashed, 200, true},
		{"POST, crashed", "POST", "body", crashed, 500, true},
		{"GET, a bug", "GET", "", failing, 500, false},
		{"GET, a bug of another version", "GET", "", older, 500, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, "n1", &counter{}, acts(1, c.first(1), backend(t, 2, nil)))
			resp, body := do(t, c.method, p.url+"/api/v1/x", c.body)
			want := c.want
			if c.name == "PUT with a body, cut off" && !reference {
				want = 200 // its body is still at hand, and PUT may be repeated
			}
			if resp.StatusCode != want {
				t.Errorf("answer %s %q, want %d", resp.Status, body, want)
			}
			if want == 502 && (!strings.Contains(body, `"code":502`) || strings.Contains(body, "127.0.0.1")) {
				t.Errorf("body %q", body)
			}
			if got := p.heard.count() > 0; got != c.suspect {
				t.Errorf("suspected %v, want %v", p.heard.rows, c.suspect)
			}
		})
	}
}

// TestLastRowIsNeverGivenUp: one row, which failed a moment ago, is tried again.
func TestLastRowIsNeverGivenUp(t *testing.T) { both(t, testLastRowIsNeverGivenUp) }

func testLastRowIsNeverGivenUp(t *testing.T) {
	var broken atomic.Bool
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(500)
		}
	})))
	broken.Store(true)
	do(t, "GET", p.url+"/", "")
	broken.Store(false)
	if resp, _ := do(t, "GET", p.url+"/", ""); resp.StatusCode != 200 {
		t.Errorf("answer %s", resp.Status)
	}
}

// TestHold: with nothing in rotation a request waits for a moment; then it is told to
// come again.
func TestHold(t *testing.T) { both(t, testHold) }

func testHold(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1))
	resp, body := do(t, "GET", p.url+"/", "")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, `"code":503`) {
		t.Errorf("answer %s %q", resp.Status, body)
	}
	p = startLimited(t, Config{Hold: patience}, acts(1))
	late := backend(t, 1, nil)
	time.AfterFunc(50*time.Millisecond, func() { p.SetTable(acts(2, late)) })
	if resp, _ := do(t, "GET", p.url+"/", ""); resp.StatusCode != 200 {
		t.Errorf("a row came, answer %s", resp.Status)
	}
	p.SetTable(Table{Index: 3})
	if resp, _ := do(t, "GET", p.url+"/", ""); resp.StatusCode != 404 {
		t.Errorf("no service, answer %s", resp.Status)
	}
}
