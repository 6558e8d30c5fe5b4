package proxy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// startSecure runs a proxy with limits of its own on a port with TLS.
func startSecure(t *testing.T, cfg Config, table Table) (p *lab, addr string) {
	t.Helper()
	cert, key := certify(t, t.TempDir(), 1)
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure, err := Secure(l, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Node, cfg.DrainTimeout = "n1", cmp.Or(cfg.DrainTimeout, 2*time.Second)
	p = &lab{heard: &heard{}}
	p.Proxy = New(cfg, node{&counter{}, "n1"}, p.heard)
	p.SetTable(table)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, secure) }()
	p.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	return p, l.Addr().String()
}

// TestHTTP2Drains: what is in flight over HTTP/2 when the node is told to end is answered.
func TestHTTP2Drains(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	p, addr := startSecure(t, Config{DrainTimeout: patience}, patient(backend(t, 1, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "late")
	})))
	client := http2Client(t)
	type result struct {
		body string
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		resp, err := client.Get("https://" + addr + "/")
		if err != nil {
			answer <- result{err: err}
			return
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		answer <- result{string(b), err}
	}()
	<-entered
	stopped := make(chan struct{})
	go func() { p.stop(); close(stopped) }()
	until(t, "it drains", p.clients.stopping.Load)
	close(release)
	if r := await(t, answer, "the answer"); r.err != nil || r.body != "late" {
		t.Errorf("%q, %v", r.body, r.err)
	}
	await(t, stopped, "the end")
}

// framed is one end of an HTTP/2 connection that a test speaks by hand.
type framed struct {
	*http2.Framer
	t    *testing.T
	conn *tls.Conn
	next uint32
}

// speak opens one. window is what may come in a stream before more is allowed.
func speak(t *testing.T, addr string, window uint32) *framed {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, http2.ClientPreface)
	f := &framed{http2.NewFramer(c, c), t, c, 1}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		t.Fatal(err)
	}
	return f
}

// ask sends a head; pairs are names and values. It returns the stream.
func (f *framed) ask(end bool, pairs ...string) uint32 {
	f.t.Helper()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	id := f.next
	f.next += 2
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndStream: end, EndHeaders: true}); err != nil {
		f.t.Fatal(err)
	}
	return id
}

// answer is the status of a stream's answer, or how the stream was reset.
func (f *framed) answer(id uint32) string {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			f.t.Fatal(err)
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				f.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID == id {
				return frame.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if frame.StreamID == id {
				return frame.ErrCode.String()
			}
		}
	}
}

// TestHTTP2Hosts: an authority that is none is refused, and so is a Host that says another:
// it would be repeated to the row, and in what the row is told of where it came from.
func TestHTTP2Hosts(t *testing.T) {
	told := make(chan string, 8)
	p, addr := startSecure(t, Config{}, acts(1, backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
		told <- r.Host + " | " + r.Header.Get("Forwarded") + " | " + r.Header.Get("X-Forwarded-Host")
	})))
	defer p.stop()
	f := speak(t, addr, 1<<16)
	pairs := func(authority string, more ...string) []string {
		return append([]string{":method", "GET", ":scheme", "https", ":path", "/", ":authority", authority}, more...)
	}
	for _, bad := range [][]string{
		pairs(`a", for=6.6.6.6;host="b`), pairs("a b"), pairs("a:b:c"), pairs("a/b"), pairs("h", "host", "other"),
	} {
		if status := f.answer(f.ask(true, bad...)); status == "200" {
			t.Errorf("%q: %s", bad[7:], status)
		}
	}
	for _, good := range [][]string{pairs("h"), pairs("h", "host", "H"), pairs("[::1]:8443")} {
		if status := f.answer(f.ask(true, good...)); status != "200" {
			t.Errorf("%q: %s", good[7:], status)
			continue
		}
		host := good[7]
		if got, want := await(t, told, "the request"), fmt.Sprintf(`%s | for=127.0.0.1;host="%[1]s";proto=https | %[1]s`, host); got != want {
			t.Errorf("the row is told %q, want %q", got, want)
		}
	}
	if len(told) > 0 {
		t.Errorf("the row sees %q too", <-told)
	}
}

// TestHTTP2Bounds: targets and fields have the limits that they have over HTTP/1.1.
func TestHTTP2Bounds(t *testing.T) {
	p, addr := startSecure(t, Config{MaxTarget: 256, MaxFields: 16}, acts(1, backend(t, 1, nil)))
	defer p.stop()
	client := http2Client(t)
	for name, c := range map[string]struct {
		path   string
		fields int
		want   int
	}{
		"within":          {"/" + strings.Repeat("x", 200), 8, 200},
		"a long target":   {"/" + strings.Repeat("x", 300), 0, 414},
		"too many fields": {"/", 30, 431},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+addr+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.fields {
			req.Header.Set(fmt.Sprint("X-", i), "y")
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
}

// TestHTTP2BodiesInTime: one that comes slowly has its time, one that stops or trickles has not.
func TestHTTP2BodiesInTime(t *testing.T) {
	slow := func(bytes int) (io.Reader, func()) { // one now and then
		r, w := io.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer w.Close()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for range bytes {
				<-tick.C
				if _, err := w.Write([]byte("x")); err != nil {
					return
				}
			}
		}()
		return r, func() { r.Close(); <-done }
	}
	for name, c := range map[string]struct {
		cfg  Config
		stop bool
		size int
		want int
	}{
		"slower than an answer may be": {size: 12, want: 200},
		"stops":                        {cfg: Config{BodyTimeout: 300 * time.Millisecond}, stop: true, want: 408},
		"trickles":                     {cfg: Config{MinBodyRate: 1000, MinBodyAfter: time.Second}, size: 1000, want: 408},
	} {
		t.Run(name, func(t *testing.T) {
			table := acts(1, backend(t, 1, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
			table.Services[0].Timeout = 600 * time.Millisecond
			p, addr := startSecure(t, c.cfg, table)
			defer p.stop()
			body, end := slow(c.size)
			defer end()
			if c.stop {
				r, w := io.Pipe()
				defer w.Close()
				body = r
			}
			resp, err := http2Client(t).Post("https://"+addr+"/", "text/plain", body)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s", resp.Status)
			}
		})
	}
}

// TestHTTP2TakersInTime: a client that takes nothing of its answer does not hold the row for
// ever, and one that is only waiting for the row is not cut.
func TestHTTP2TakersInTime(t *testing.T) {
	pause := 300 * time.Millisecond
	release := make(chan struct{})
	p, addr := startSecure(t, Config{BodyTimeout: pause}, patient(backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			io.WriteString(w, "one\n")
			w.(http.Flusher).Flush()
			<-release
			io.WriteString(w, "two\n")
			return
		}
		w.Write(noise(1 << 20))
	})))
	defer p.stop()
	f := speak(t, addr, 0)
	id := f.ask(true, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "h")
	if status := f.answer(id); status != "200" {
		t.Fatalf("the answer: %s", status)
	}
	if status := f.answer(id); status != http2.ErrCodeInternal.String() {
		t.Errorf("the stream ends by %s", status)
	}
	until(t, "the row is let go", func() bool { return len(p.InFlight()) == 0 })

	resp, err := http2Client(t).Get("https://" + addr + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	past := time.NewTimer(3 * pause)
	defer past.Stop()
	<-past.C
	close(release)
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "one\ntwo\n" {
		t.Errorf("%q, %v", b, err)
	}
}
