package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// raw sends bytes and returns the status line of the answer.
func raw(t *testing.T, p *lab, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return strings.TrimSpace(line)
}

// TestInternalsAreClosed to whatever a service might read as one of them.
func TestInternalsAreClosed(t *testing.T) { both(t, testInternalsAreClosed) }

func testInternalsAreClosed(t *testing.T) {
	var reached atomic.Int64
	row := backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			reached.Add(1)
		}
	})
	p := start(t, "n1", &counter{}, acts(1, row))
	for _, target := range []string{
		"/api/v1/_crash", "/api/v1/%5Fcrash", "/api/v1/%5fcrash", "/api/v1/%255Fcrash", "//api/v1/_crash", "/api//v1/_crash", "/./api/v1/_crash",
		"/x/../api/v1/_crash", "/api/x/../v1/_crash", "/api/v1;a=b/_crash", "/API/V1/_CRASH", "/api/v1/_crash/", "/api/v1/_crash?x", "/api/v1/./_crash",
		"/api/%2e/v1/_crash", "/api/x/%2e%2e/v1/_crash", "/api%2Fv1%2F_crash", "/api\\v1\\_crash", "http://h/api/v1/_crash",
		"/api/v1/_crash/..", "/api/v1/_crash/../photos", "/api/v1/_crash/%2e%2e", "/api/v1/_crash;/..;/x", "/api/v1/_crash%2F..", "/../api/v1/_crash",
	} {
		got := raw(t, p, "POST "+target+" HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		if !strings.Contains(got, " 403 ") && !strings.Contains(got, " 400 ") && !strings.Contains(got, " 404 ") {
			t.Errorf("%s: %s", target, got)
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("%d requests came through", n)
	}
	open := acts(2, row)
	open.Services[0].ExposeInternal = true
	p.SetTable(open)
	if got := raw(t, p, "POST /api/v1/_crash HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); !strings.Contains(got, " 200 ") {
		t.Errorf("opened by the spec: %s", got)
	}
}

// TestFraming: what is ambiguous is refused.
func TestFraming(t *testing.T) { both(t, testFraming) }

func testFraming(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, rows(t, 1)...))
	for name, c := range map[string]struct{ request, want string }{
		"both lengths":           {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", " 4"},
		"two lengths":            {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", " 400 "},
		"a signed length":        {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc", " 400 "},
		"an odd encoding":        {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", map[bool]string{false: " 400 ", true: " 501 "}[reference]},
		"no host":                {"GET / HTTP/1.1\r\n\r\n", " 400 "},
		"space before the colon": {"GET / HTTP/1.1\r\nHost : h\r\n\r\n", " 400 "},
		"connection drops":       {"GET / HTTP/1.1\r\nHost: h\r\nConnection: close, content-length\r\n\r\n", " 400 "},
		"too much body":          {"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n", " 413 "},
		"too much head":          {"GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 80<<10) + "\r\n\r\n", " 431 "},
		"a method of its own":    {"BREW / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", " 200 "},
	} {
		got := raw(t, p, c.request)
		if name == "both lengths" { // net/http drops the length and goes by the chunks, as RFC 9112 6.3 allows
			if !(reference && strings.Contains(got, " 200 ")) && !strings.Contains(got, c.want) {
				t.Errorf("%s: %s", name, got)
			}
			continue
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want%s", name, got, c.want)
		}
	}
}

// TestBadBodyIsTheClientsFault: it is told so, and no row is passed over for it.
func TestBadBodyIsTheClientsFault(t *testing.T) { both(t, testBadBodyIsTheClientsFault) }

func testBadBodyIsTheClientsFault(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })))
	got := raw(t, p, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nZZ\r\n")
	if !strings.Contains(got, " 400 ") {
		t.Errorf("answer %s", got)
	}
	if n := p.heard.count(); n > 0 {
		t.Errorf("%v were suspected", p.heard.rows)
	}
}

// TestAddressChangesUnderARequest: what is in flight at the old address is still seen.
func TestAddressChangesUnderARequest(t *testing.T) { both(t, testAddressChangesUnderARequest) }

func testAddressChangesUnderARequest(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	old := backend(t, 1, func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	next := backend(t, 1, nil)
	p := start(t, "n1", &counter{}, acts(1, old))
	answer := make(chan error, 1)
	go func() {
		resp, err := browser.Get(p.url + "/")
		if err == nil {
			resp.Body.Close()
		}
		answer <- err
	}()
	<-entered
	p.SetTable(acts(2, next))
	if l := p.InFlight(); len(l) != 1 || l[0].InFlight != 1 {
		t.Errorf("in flight %+v, want the one at the old address", l)
	}
	close(release)
	if err := <-answer; err != nil {
		t.Error(err)
	}
	browser.CloseIdleConnections()
}

// TestHeaders: hop-by-hop ones end here, forwarded ones are set and not trusted.
func TestHeaders(t *testing.T) { both(t, testHeaders) }

func testHeaders(t *testing.T) {
	seen := make(chan http.Header, 1)
	hosts := make(chan string, 1)
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
		hosts <- r.Host
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("X-Orch-Turn", "forged")
	})))
	req, err := http.NewRequest("GET", p.url+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "acts.example"
	for k, v := range map[string]string{"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "Connection": "X-Mine", "X-Mine": "1", "Keep-Alive": "1", "X-Kept": "1", "Upgrade": "h2c",
		"HTTP2-Settings": "AAMAAABkAAQAAP__", "X-Real-IP": "6.6.6.6", "X-Forwarded-Port": "443", "X_Forwarded_For": "6.6.6.6", "X-Original-URL": "/api/v1/_crash", "Proxy": "http://evil/", "X-Orch-Node": "n9"} {
		req.Header.Set(k, v)
	}
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	t.Cleanup(browser.CloseIdleConnections)
	h := <-seen
	if host := <-hosts; host != "acts.example" || h.Get("X-Forwarded-Host") != "acts.example" {
		t.Errorf("host %q, forwarded %q", host, h.Get("X-Forwarded-Host"))
	}
	if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Proto") != "http" || h.Get("X-Kept") != "1" {
		t.Errorf("headers %v", h)
	}
	if got := h.Get("Forwarded"); got != `for=127.0.0.1;host="acts.example";proto=http` {
		t.Errorf("Forwarded: %s", got)
	}
	for _, gone := range []string{"X-Mine", "Keep-Alive", "Upgrade", "Http2-Settings", "X-Real-Ip", "X-Forwarded-Port", "X_forwarded_for", "X-Original-Url", "Proxy", "X-Orch-Node"} {
		if h.Get(gone) != "" {
			t.Errorf("%s came through", gone)
		}
	}
	if resp.Header.Get("X-Hop") != "" || !strings.HasSuffix(resp.Header.Get("X-Orch-Turn"), "leased") || resp.Header.Get("X-Orch-Container") != "acts/1" {
		t.Errorf("answer %v", resp.Header)
	}
}

// TestLongestPrefixWins over all services, at segments.
func TestLongestPrefixWins(t *testing.T) { both(t, testLongestPrefixWins) }

func testLongestPrefixWins(t *testing.T) {
	table := acts(1, backend(t, 1, nil))
	users := table.Services[0]
	users.Name, users.Routes, users.Rows = "users", []string{"/api/v1/users"}, []Row{backend(t, 2, nil)}
	table.Services = append(table.Services, users)
	p := start(t, "n1", &counter{}, table)
	for path, want := range map[string]string{"/": "1", "/api/v1/users": "2", "/api/v1/users/x": "2", "/api/v1/usersx": "1"} {
		if _, got := do(t, "GET", p.url+path, ""); got != want {
			t.Errorf("%s went to %s, want %s", path, got, want)
		}
	}
}

// TestStreamsBothWays: what is written arrives before the end, in both directions.
func TestStreamsBothWays(t *testing.T) { both(t, testStreamsBothWays) }

func testStreamsBothWays(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "heard %s\n", lines.Text())
			http.NewResponseController(w).Flush()
		}
	})))
	r, w := io.Pipe()
	req, err := http.NewRequest("POST", p.url+"/", r)
	if err != nil {
		t.Fatal(err)
	}
	go io.WriteString(w, "one\n")
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	t.Cleanup(browser.CloseIdleConnections)
	answers := bufio.NewReader(resp.Body)
	for i, word := range []string{"one", "two", "three"} {
		if i > 0 {
			io.WriteString(w, word+"\n")
		}
		if line, err := answers.ReadString('\n'); err != nil || line != "heard "+word+"\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	w.Close()
}

func TestWebSocket(t *testing.T) { both(t, testWebSocket) }

func testWebSocket(t *testing.T) {
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		kind, b, err := c.Read(r.Context())
		if err == nil {
			c.Write(r.Context(), kind, append([]byte("echo "), b...))
			c.Close(websocket.StatusNormalClosure, "")
		}
	})))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, strings.Replace(p.url, "http", "ws", 1)+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if load := p.InFlight(); len(load) != 1 || load[0].InFlight != 1 {
		t.Errorf("in flight %+v", load)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != "echo hello" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestRowComesBack: a row that was out of rotation for a while, with a request in flight
// on it, gets turns again in the same generation.
func TestRowComesBack(t *testing.T) { both(t, testRowComesBack) }

func testRowComesBack(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	row := backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
	})
	p := start(t, "n1", &counter{}, acts(1, row))
	answer := make(chan error, 1)
	go func() {
		resp, err := browser.Get(p.url + "/slow")
		if err == nil {
			resp.Body.Close()
		}
		answer <- err
	}()
	<-entered
	p.SetTable(acts(2))
	p.SetTable(acts(3, row))
	if resp, body := do(t, "GET", p.url+"/", ""); resp.StatusCode != 200 {
		t.Errorf("answer %s %s", resp.Status, body)
	}
	close(release)
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// TestRunDrains: at the end what is in flight is answered, and nothing new is taken.
func TestRunDrains(t *testing.T) { both(t, testRunDrains) }

func testRunDrains(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	p := start(t, "n1", &counter{}, acts(1, backend(t, 1, func(http.ResponseWriter, *http.Request) { close(entered); <-release })))
	answer := make(chan error, 1)
	go func() {
		resp, err := browser.Get(p.url + "/")
		if err == nil {
			resp.Body.Close()
		}
		answer <- err
	}()
	<-entered
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	deadline := time.Now().Add(5 * time.Second)
	for {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("it still takes connections")
		}
	}
	close(release)
	if err := <-answer; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	<-stopped
	browser.CloseIdleConnections()
}

// picked is a service of three rows with turns without end.
func picked() *service {
	s := &service{turns: newTurns("acts", "n1", nil, new(atomic.Uint64))}
	for i := range 3 {
		s.rows = append(s.rows, &upstream{Row: Row{Number: i + 1}, limit: 1024})
	}
	s.turns.current.Store(&run{end: 1 << 62, half: 1 << 61})
	return s
}

// BenchmarkPick is the turn, the rotation, the claim and the settling of a request.
func BenchmarkPick(b *testing.B) {
	s := picked()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			turn, _ := s.turns.spend()
			s.pick(turn, nil).settle()
		}
	})
}
