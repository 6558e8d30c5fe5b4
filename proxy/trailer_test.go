package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestTrailersOfAnswers go to a client that asked for them; nothing that frames, routes
// or speaks of the connection does.
func TestTrailersOfAnswers(t *testing.T) { both(t, testTrailersOfAnswers) }

func testTrailersOfAnswers(t *testing.T) {
	p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
		for w.head() != "" {
			w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
		}
	})))
	for _, asks := range []bool{true, false} {
		w := call(t, p)
		te := ""
		if asks {
			te = "TE: trailers\r\n"
		}
		w.say("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + te + "\r\n")
		resp, err := http.ReadResponse(w.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "ok" {
			t.Errorf("%q, %v", body, err)
		}
		if got := resp.Trailer.Get("X-Sum"); asks && got != "1" || !asks && !reference && got != "" {
			t.Errorf("asked %t: trailer %q", asks, got)
		}
	}
}

// TestTrailersThatSayTooMuch are left out of an answer, whatever announced them.
func TestTrailersThatSayTooMuch(t *testing.T) {
	p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
		for w.head() != "" {
			w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Set-Cookie\r\n\r\n2\r\nok\r\n0\r\nSet-Cookie: a=b\r\nX-Sum: 1\r\nContent-Length: 9\r\nHost: x\r\nX-Orch-Turn: 7\r\n\r\n")
		}
	})))
	w := call(t, p)
	w.say("GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n")
	w.head()
	w.hear("2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")
}

// TestTrailersOfRequests reach the row behind the body.
func TestTrailersOfRequests(t *testing.T) { both(t, testTrailersOfRequests) }

func testTrailersOfRequests(t *testing.T) {
	seen := make(chan http.Header, 1)
	p := startLimited(t, Config{}, patient(backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		seen <- r.Trailer
	})))
	w := call(t, p)
	w.say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Other\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n")
	if got := await(t, seen, "the request"); got.Get("X-Sum") != "1" || got.Get("X-Other") != "2" {
		t.Errorf("trailers %v", got)
	}
	if head := w.head(); !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Errorf("there comes %q", head)
	}
}

// TestChunksToHTTP10: a client that knows no chunks gets the body to its end.
func TestChunksToHTTP10(t *testing.T) { both(t, testChunksToHTTP10) }

func testChunksToHTTP10(t *testing.T) {
	for _, keep := range []string{"", "Connection: keep-alive\r\n"} {
		p := startLimited(t, Config{}, patient(rowBy(t, 1, func(w *speaker) {
			for w.head() != "" {
				w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n")
			}
		})))
		w := call(t, p)
		w.say("GET / HTTP/1.0\r\n" + keep + "\r\n")
		if head := w.head(); !strings.Contains(head, " 200 OK\r\n") || strings.Contains(head, "Transfer-Encoding") || strings.Contains(head, "keep-alive") {
			t.Errorf("there comes %q", head)
		}
		w.hear("hello world")
		w.ended()
	}
}
