package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"

	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// record is a row that remembers the requests that reached it whole, as net/http's
// reader sees them, and what it could not read.
type record struct {
	mu   sync.Mutex
	seen []reading
	bad  []string
}

func (r *record) take() (seen []reading, bad []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, bad = r.seen, r.bad
	r.seen, r.bad = nil, nil
	return seen, bad
}

// serve answers every request of a connection with 200.
func (r *record) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		if _, err := in.Peek(1); err != nil {
			return
		}
		req, err := http.ReadRequest(in)
		if err != nil {
			r.mu.Lock()
			r.bad = append(r.bad, err.Error())
			r.mu.Unlock()
			return
		}
		if req.Header.Get("Expect") != "" {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // its client left it half said
		}
		r.mu.Lock()
		r.seen = append(r.seen, reading{method: req.Method, target: req.RequestURI, host: req.Host, fields: comparable(req), body: string(body)})
		r.mu.Unlock()
		length := "0"
		if req.Method == http.MethodHead {
			length = "5"
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: "+length+"\r\n\r\n")
	}
}

// comparable is what of a request's fields is alike on both paths: all but what each
// makes by chance, and how the body is framed.
func comparable(r *http.Request) string {
	var out []string
	for name, values := range r.Header {
		switch name {
		case "X-Request-Id":
			if len(values) == 1 && len(values[0]) == 16 {
				continue
			}
		case "Connection", "Te", "Content-Length", "User-Agent":
			continue
		}
		out = append(out, name+": "+strings.Join(values, " | "))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// pair is both paths before one row each, and the row's record.
type pair struct {
	own    string // address
	theirs *memories
	rows   [2]*record
	asked  int
}

func newPair(f testing.TB) *pair {
	l := &pair{theirs: newMemories()}
	var listeners [2]net.Listener
	listeners[1] = l.theirs
	for i, reference := range []bool{false, true} {
		row, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			f.Fatal(err)
		}
		l.rows[i] = &record{}
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				c, err := row.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { l.rows[i].serve(c) })
			}
		})
		if !reference {
			if listeners[0], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				f.Fatal(err)
			}
			l.own = listeners[0].Addr().String()
		}
		p := New(Config{Node: "n1", Logger: slog.New(slog.DiscardHandler), Hold: time.Millisecond, DrainTimeout: time.Second, NetHTTP: reference}, node{&counter{}, "n1"}, &heard{})
		p.SetTable(Table{Index: 1, Services: []Service{{Name: "acts", Routes: []string{"/"}, Mode: "leased", Rows: []Row{{Number: 1, Generation: 1, Addr: row.Addr().String(), Direct: true}}}}})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- p.Run(ctx, listeners[i]) }()
		f.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				f.Error(err)
			}
			row.Close()
			serving.Wait()
		})
	}
	return l
}

// conversation is what came of a client's bytes on one path.
type conversation struct {
	seen     []reading
	bad      []string
	answers  []byte
	refusals int // answers that the row did not give
}

func (l *pair) through(t testing.TB, b []byte) (ours, others conversation) {
	t.Helper()
	// Each conversation is of another loopback address: the ports of one would be used up
	// by connections that have ended.
	l.asked++
	from := net.IPv4(127, 1, byte(l.asked>>8), byte(l.asked))
	ours.answers = half(t, from, l.own, b)
	ours.seen, ours.bad = l.rows[0].take()
	var err error
	if others.answers, err = l.theirs.serve(from, b); err != nil {
		t.Fatal(err)
	}
	others.seen, others.bad = l.rows[1].take()
	for _, c := range []*conversation{&ours, &others} {
		c.refusals = len(refusing.FindAll(c.answers, -1))
	}
	return ours, others
}

// half sends b, closes its side, and reads to the end.
func half(t testing.TB, from net.IP, addr string, b []byte) []byte {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write(b) // fails where the proxy has refused what came before
	c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Fatalf("%q: the connection does not end; so far %q", b, got)
	}
	return got
}

// hold compares what the rows of both paths saw of a client's bytes: the same requests,
// unless the own path refused one and read nothing behind it, or the list explains it.
func (l *pair) hold(t *testing.T, b []byte) {
	t.Helper()
	for _, v := range l.verdicts(t, b) {
		v.explained(t, exchanges)
	}
}

// verdicts are of the requests that did not come to the rows alike.
func (l *pair) verdicts(t testing.TB, b []byte) (out []*verdict) {
	t.Helper()
	ours, others := l.through(t, b)
	if len(ours.bad) > 0 || len(others.bad) > 0 {
		t.Fatalf("%q goes on as what no row can read: %q by the own path, %q by net/http", b, ours.bad, others.bad)
	}
	if n := bytes.Count(ours.answers, []byte("HTTP/1.1 200 OK\r\n")); n != len(ours.seen) {
		t.Fatalf("%q: the row saw %d requests, the client %d answers: %q", b, len(ours.seen), n, ours.answers)
	}
	for i := range max(len(ours.seen), len(others.seen)) {
		v := &verdict{in: b}
		switch {
		case i >= len(ours.seen):
			if ours.refusals == 0 {
				t.Fatalf("%q: the own path lost a request without a word; the other saw %+v", b, others.seen[i])
			}
			return out // it has refused, and need not say why
		case i >= len(others.seen):
			if v.ours, v.theirs = ours.seen[i], errRefused; others.refusals == 0 {
				t.Fatalf("%q: net/http lost a request without a word; the own path sent %+v", b, ours.seen[i])
			}
			return append(out, v)
		}
		if v.ours, v.others = ours.seen[i], others.seen[i]; v.ours != v.others {
			out = append(out, v)
		}
	}
	return out
}

var (
	errRefused = errors.New("refused")
	refusing   = regexp.MustCompile(`HTTP/1\.[01] [45][0-9][0-9] `)
)

func FuzzExchange(f *testing.F) {
	for _, s := range ambiguous {
		f.Add([]byte("GET /honest HTTP/1.1\r\nHost: h\r\n\r\n" + s))
	}
	for _, s := range []string{
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: h\r\n\r\n\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\nGET /3 HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\nhello",
	} {
		f.Add([]byte(s))
	}
	l := newPair(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < maxHead/2 {
			l.hold(t, b)
		}
	})
}

func FuzzComposedExchange(f *testing.F) {
	l := newPair(f)
	composed(f, func(t *testing.T, c choices) {
		var b bytes.Buffer
		for n := 0; len(c) > 0 && n < 4; n++ {
			b.WriteString(c.of([]string{"", "", "", "", "", "", "\r\n", "\r\n\r\n", "\n"}))
			c.request(&b)
			switch c.of([]string{"none", "length", "chunks"}) {
			case "length":
				b.WriteString("hello")
			case "chunks":
				c.chunks(&b)
			}
		}
		l.hold(t, b.Bytes())
	})
}
