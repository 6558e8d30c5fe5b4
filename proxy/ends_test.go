package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestEarlyAnswer: a row answers before it has read the body. The client gets all of the
// answer, and neither connection is used again: what is left of the body would be the
// next request.
func TestEarlyAnswer(t *testing.T) { both(t, testEarlyAnswer) }

func testEarlyAnswer(t *testing.T) {
	for name, c := range map[string]struct{ framing, rest string }{
		"a length": {"Content-Length: 43\r\n", "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"},
		"chunks":   {"Transfer-Encoding: chunked\r\n", "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var conns atomic.Int64
			p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
				if conns.Add(1) == 1 {
					w.head()
					w.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				} else {
					w.head()
					w.say(ok2)
				}
				if rest, _ := io.ReadAll(w.in); bytes.Contains(rest, []byte("/next")) {
					t.Errorf("a second request: %q", rest)
				}
			})))
			w := call(t, p)
			w.say("POST / HTTP/1.1\r\nHost: h\r\n" + c.framing + "\r\n")
			if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 413 ") || !strings.Contains(head, "\r\nConnection: close\r\n") {
				t.Errorf("there comes %q", head)
			}
			w.hear("no")
			w.say(c.rest)
			w.CloseWrite()
			w.ended()
			w = call(t, p)
			w.say("GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
				t.Errorf("then comes %q", head)
			}
			if n := conns.Load(); n != 2 {
				t.Errorf("%d connections to the row, want 2", n)
			}
		})
	}
}

// TestLargeEarlyAnswer: the same with more of both than any buffer holds. net/http closes
// half a second after its last write, whatever the client has of it.
func TestLargeEarlyAnswer(t *testing.T) {
	body := noise(4 << 20)
	table := patient(rowBy(t, 1, func(w *speaker) {
		w.head()
		w.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body)))
		w.Write(body)
		io.Copy(io.Discard, w.in)
	}))
	table.Services[0].MaxBody = 0
	w := call(t, startLimited(t, Config{}, table))
	w.say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for piece := noise(64 << 10); ; {
			if _, err := w.Write(piece); err != nil {
				return // the proxy has closed
			}
		}
	}()
	resp, err := http.ReadResponse(w.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes of %d came: %v", len(got), len(body), err)
	}
	w.Close()
	<-sent
}

// TestRowDiesInItsAnswer: the client can tell that there was more, however the answer is
// framed on either side.
func TestRowDiesInItsAnswer(t *testing.T) { both(t, testRowDiesInItsAnswer) }

func testRowDiesInItsAnswer(t *testing.T) {
	part := strings.Repeat("x", 100_000)
	for name, c := range map[string]struct{ version, head, part string }{
		"by length":                        {"1.1", "Content-Length: 1000000\r\n", part},
		"by length, a little":              {"1.1", "Content-Length: 1000\r\n", "x"},
		"by length, to 1.0":                {"1.0", "Content-Length: 1000000\r\n", part},
		"in chunks":                        {"1.1", "Transfer-Encoding: chunked\r\n", "186a0\r\n" + part + "\r\n"},
		"in a chunk":                       {"1.1", "Transfer-Encoding: chunked\r\n", "fffff\r\n" + part},
		"in chunks, to 1.0":                {"1.0", "Transfer-Encoding: chunked\r\n", "186a0\r\n" + part + "\r\n"},
		"by its end, with a reset":         {"1.1", "", part},
		"by its end, with a reset, to 1.0": {"1.0", "", part},
	} {
		for _, reset := range []bool{false, true} {
			if c.head == "" && !reset {
				continue // that is how such an answer ends
			}
			t.Run(fmt.Sprintf("%s, reset %t", name, reset), func(t *testing.T) {
				if reference && c.version == "1.0" && !strings.Contains(c.head, "Length") {
					t.Skip("net/http cannot reset a connection, and HTTP/1.0 knows no other sign")
				}
				arrived := make(chan struct{})
				p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
					w.head()
					w.say("HTTP/1.1 200 OK\r\n" + c.head + "\r\n" + c.part)
					<-arrived
					if reset {
						w.SetLinger(0)
					}
				})))
				w := call(t, p)
				w.say("GET / HTTP/" + c.version + "\r\nHost: h\r\n\r\n")
				resp, err := http.ReadResponse(w.in, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				close(arrived)
				if n, err := io.Copy(io.Discard, resp.Body); err == nil {
					t.Errorf("%d bytes and a clean end", n+1)
				}
			})
		}
	}
}

// TestRowHalfCloses: a row that ends its side after an answer is not asked again, and
// the next request is answered on another connection.
func TestRowHalfCloses(t *testing.T) { both(t, testRowHalfCloses) }

func testRowHalfCloses(t *testing.T) {
	for name, answer := range map[string]string{
		"it says so":            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"its end is the body's": "HTTP/1.1 200 OK\r\n\r\nok",
		"of HTTP/1.0":           "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{}, 3)
			p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
				w.head()
				w.hear("hello")
				w.say(answer)
				w.CloseWrite()
				w.ended()
				closed <- struct{}{}
			})))
			for range 3 {
				resp, body := do(t, "POST", p.url+"/", "hello")
				if resp.StatusCode != 200 || body != "ok" {
					t.Errorf("%s %q", resp.Status, body)
				}
				await(t, closed, "the end of the row's connection")
			}
		})
	}
}

// TestGoneClient: the row's connection ends soon after its client has left, whether it
// was in the middle of its answer, silent, or reading the body.
func TestGoneClient(t *testing.T) { both(t, testGoneClient) }

func testGoneClient(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		row     func(w *speaker, leave func())
	}{
		"in an answer": {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", func(w *speaker, leave func()) {
			w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			leave()
			for {
				if _, err := io.WriteString(w, "5\r\nhello\r\n"); err != nil {
					return
				}
				<-time.After(time.Millisecond)
			}
		}},
		"in a stream that pauses": {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", func(w *speaker, leave func()) {
			w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			leave()
			w.ended()
		}},
		"before an answer": {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", func(w *speaker, leave func()) {
			leave()
			w.ended()
		}},
		"before the answer to a body": {"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", func(w *speaker, leave func()) {
			w.hear("5\r\nhello\r\n0\r\n\r\n")
			leave()
			w.ended()
		}},
		"in its body": {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhello", func(w *speaker, leave func()) {
			w.hear("hello")
			leave()
			w.ended()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			left, ended := make(chan struct{}), make(chan struct{})
			table := patient(rowBy(t, 1, func(w *speaker) {
				w.head()
				c.row(w, func() { close(left) })
				close(ended)
			}))
			registry := prometheus.NewRegistry()
			p := startLimited(t, Config{GoneAfter: 100 * time.Millisecond, Registry: registry}, table)
			w := call(t, p)
			w.say(c.request)
			await(t, left, "the request")
			if strings.HasPrefix(name, "in a") {
				w.head()
			}
			w.Close()
			await(t, ended, "the end of the row's connection")
			for deadline := time.Now().Add(patience); len(p.InFlight()) > 0; <-time.After(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("still in flight: %+v", p.InFlight())
				}
			}
			if n := p.heard.count(); n > 0 {
				t.Errorf("%v are blamed for it", p.heard.rows)
			}
			code, number := "499", 0
			switch {
			case strings.HasPrefix(name, "in a"):
				code, number = "200", 1
			case name == "in its body": // it may still take an answer
				code = "400"
			}
			want := fmt.Sprintf(`orch_proxy_requests_total{code=%q,number="%d",service="acts"} 1`, code, number)
			lines(t, registry, want)
		})
	}
}
