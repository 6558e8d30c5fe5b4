package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// FuzzRequestHead: what is taken goes on as one request that net/http reads as the same;
// it does not matter in which pieces it comes.
func FuzzRequestHead(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", "GET / HTTP/1.1\nHost: h\n\n", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nConnection: content-length, x\r\nX: 1\r\n\r\n", "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:b:c\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X, Content-Length\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nTE: trailers, gzip\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, c := range append(slices.Clone(badFraming), badStarts...) {
		f.Add([]byte(c.sent))
	}
	for _, c := range goodStarts {
		f.Add([]byte(c.sent))
	}
	for _, c := range requestFields {
		f.Add([]byte("GET / HTTP/1.1\r\nHost: h\r\n" + c.sent + "\r\n"))
	}
	p := catchAll(false)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxHead/2 {
			return // sizes have tests of their own
		}
		requestVerdict(p, b).explained(t, requests)
		end, _, err := scanHead(b, 0)
		if pieces, perr := scanPieces(b); pieces != end || (perr == nil) != (err == nil) {
			t.Fatalf("%q ends at %d (%v) as a whole and at %d (%v) byte by byte", b, end, err, pieces, perr)
		}
		if err != nil || end == 0 {
			return
		}
		var r request
		if r.parse(b[:end], false) != nil {
			return
		}
		out := r.append(nil, &nobody)
		got, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(out), strings.NewReader("0\r\n\r\n"))))
		if err != nil {
			t.Fatalf("%q goes on as %q, which net/http refuses: %v", b[:end], out, err)
		}
		chunked := len(got.TransferEncoding) > 0
		if got.Method != r.method || got.Host != string(r.host) || chunked != r.chunked || !chunked && got.ContentLength != max(r.length, 0) {
			t.Fatalf("%q goes on as %q, read as %s %s, length %d, chunked %t", b[:end], out, got.Method, got.Host, got.ContentLength, chunked)
		}
		if n := bytes.Count(out, []byte("\r\n\r\n")); n != 1 || !bytes.HasSuffix(out, []byte("\r\n\r\n")) || bytes.IndexByte(bytes.ReplaceAll(out, []byte("\r\n"), nil), '\n') >= 0 {
			t.Fatalf("%q goes on as %q", b[:end], out)
		}
		if f := got.Header.Get("X-Forwarded-For"); f != "192.0.2.1" || len(got.Header.Values("Forwarded")) != 1 || got.Header.Get("Proxy-Authorization") != "" {
			t.Fatalf("%q goes on as %q", b[:end], out)
		}
	})
}

// scanPieces scans as if the bytes came one at a time.
func scanPieces(b []byte) (end int, err error) {
	next := 0
	for n := 1; n <= len(b); n++ {
		if end, next, err = scanHead(b[:n], next); end > 0 || err != nil {
			return end, err
		}
	}
	return 0, nil
}

// FuzzChunks: a body that is taken is the one that net/http reads, whatever pieces it
// comes in; and as it goes on net/http reads the same again.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{
		"5\r\nhello\r\n0\r\n\r\n", "5;a=b\r\nhello\r\n0\r\n\r\n", "5;a=\"x;\\\"\"\r\nhello\r\n0\r\nX: y\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "05\r\nhello\r\n0\r\n\r\n",
		"0x5\r\nhello\r\n0\r\n\r\n", "-5\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "10000000000000005\r\nhello", "5;\x00\r\nhello\r\n0\r\n\r\n", "5!\r\nhello\r\n0\r\n\r\n", strings.Repeat("1;"+strings.Repeat("x", 240)+"\r\na\r\n", 80) + "0\r\n\r\n",
		"0\r\nContent-Length: 5\r\n\r\n", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n bad\r\n\r\n", "5\r\nhello\rX0\r\n\r\n", "A\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "0\r\nX: y\n\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, c := range badChunks {
		f.Add([]byte(c.sent))
	}
	for _, c := range goodChunks {
		f.Add([]byte(c.sent))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		chunksVerdict(b).explained(t, bodies)
		body, trailers, rest, err := decodeAll(b, len(b))
		piecemeal, _, restPiecemeal, errPiecemeal := decodeAll(b, 1)
		ok, okPiecemeal := err == nil, errPiecemeal == nil
		if ok != okPiecemeal || ok && (!bytes.Equal(body, piecemeal) || rest != restPiecemeal) {
			t.Fatalf("%q is %q (%t, %d left) as a whole and %q (%t, %d left) byte by byte", b, body, ok, rest, piecemeal, okPiecemeal, restPiecemeal)
		}
		if !ok {
			return
		}
		again := appendChunk(nil, body)
		if len(body) == 0 {
			again = nil
		}
		again = append(append(append(again, "0\r\n"...), trailers...), "\r\n"...)
		if got, _, left, err := decodeAll(again, len(again)); err != nil || left != 0 || !bytes.Equal(got, body) {
			t.Fatalf("%q goes on as %q", b, again)
		}
		for line := range strings.SplitSeq(strings.ToLower(string(trailers)), "\r\n") {
			for _, name := range []string{"content-length:", "transfer-encoding:", "host:", "connection:", "trailer:", "authorization:", "set-cookie:"} {
				if strings.HasPrefix(line, name) {
					t.Fatalf("%q has a trailer %q", b, line)
				}
			}
		}
	})
}

// decodeAll decodes a body that comes in pieces of n bytes; rest is how many bytes are
// left behind it.
func decodeAll(b []byte, n int) (body, trailers []byte, rest int, err error) {
	var c chunkReader
	c.reset()
	at, have := 0, 0
	for {
		piece, taken, done, err := c.next(b[at:have])
		if err != nil {
			return nil, nil, 0, err
		}
		body = append(body, piece...)
		if at += taken; done {
			return body, c.trailers, len(b) - at, nil
		}
		if taken == 0 {
			if have == len(b) {
				return nil, nil, 0, io.ErrUnexpectedEOF
			}
			have = min(have+max(n, 1), len(b))
		}
	}
}

// FuzzAnswerHead: what is taken goes on as an answer that net/http reads as the same.
func FuzzAnswerHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 99 X\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n",
		"HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "HTTP/1.1 200 OK\r\nX-Orch-Node: forged\r\nConnection: x, close\r\nX: 1\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	for _, c := range badAnswers {
		f.Add([]byte(c.sent))
	}
	for _, c := range answerFields {
		f.Add([]byte(okLine + c.says + "Content-Length: 2\r\n\r\nok"))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		answerVerdict(b).explained(t, answers)
		end, _, err := scanHead(b, 0)
		if err != nil || end == 0 {
			return
		}
		var a answer
		if a.parse(b[:end]) != nil || a.code < 200 {
			return
		}
		r := request{head: head{minor: 1}, method: http.MethodGet}
		out := a.append(nil, &r, &trip{service: &service{}}, false)
		got, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(out), strings.NewReader("0\r\n\r\n"))), nil)
		if err != nil {
			t.Fatalf("%q goes on as %q, which net/http refuses: %v", b[:end], out, err)
		}
		got.Body.Close()
		if got.StatusCode != a.code || got.Header.Get("X-Orch-Node") != "" || got.Close {
			t.Fatalf("%q goes on as %q, read as %d", b[:end], out, got.StatusCode)
		}
		if !a.bodiless(http.MethodGet) && a.length >= 0 && got.ContentLength != a.length {
			t.Fatalf("%q goes on as %q, with length %d", b[:end], out, got.ContentLength)
		}
	})
}
