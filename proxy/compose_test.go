package proxy

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Random bytes seldom become HTTP. These fuzz targets read their input as choices from
// what attacks and old clients are made of.

var (
	someMethods  = []string{"GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "PRI", "get", "M-SEARCH", "G ET", "", "\x00", "DELETE", "TRACE"}
	someTargets  = []string{"/", "/x?y=z", "/a%20b", "/%zz", "/%2e%2e/x", "//h/x", "/a;b?c;d", "*", "h:80", "http://h/", "http://h", "http://h?x", "HTTP://H/x", "http://h:80/", "http://other/", "https://h/", "ftp://h/", "http://u:p@h/", "http://%68/", "http:///x", "http://[::1]/", "http:/x", "x", "", "/\x7f", "/ü", "/#f", "/\\", "/{|}^`\"<>", "/a b", "/\t", "http://h:/", "http://h%2f/", "/?%", "http://a,b/", "http://(h)/", "?x", "http://h//x", "http://h/?%zz"}
	someVersions = []string{"HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.10", "HTTP/01.1", "http/1.1", "HTTP/1", "", "HTTP/1.1 ", "HTTP /1.1", "HTTP/1,1"}
	someEnds     = []string{"\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n ", "\r\n\t", "\r\r\n", ""}
	someNames    = []string{"Host", "Host", "Host", "Content-Length", "Content-Length", "Transfer-Encoding", "Transfer-Encoding", "Connection", "Expect", "Upgrade", "TE", "Trailer", "X-Forwarded-For", "Forwarded", "X-Request-Id", "Cookie", "X", "content-length", "hOST", "Content_Length", "Content-Length ", " Host", "", "Te", "X\x00", "Proxy-Connection", "Keep-Alive", "Ä", "X(", "Via", "Content-Type", "User-Agent", "Accept-Encoding", "X-Orch-Turn", "HTTP2-Settings", "Range", "Pragma", "Authorization"}
	someColons   = []string{": ", ": ", ": ", ":", ":\t", " :", "", ":  ", ": \x00"}
	someValues   = []string{"h", "h", "h", "0", "3", "5", "5", "chunked", "chunked", "close", "keep-alive", "100-continue", "websocket", "h2c", "trailers", "Upgrade", "", "h:80", "other", "[::1]", "[::1]:80", "a:b", ":80", "h:123456", "h,i", "%68", "%zz", "a@b", "a/b", "-1", "+5", "5, 5", "5 5", "0x5", "05", "00000000000000000005", "999999999999999999999", "Chunked", "gzip, chunked", "chunked, chunked", "chunked;q=1", "\"chunked\"", "identity", "xchunked", "content-length", "host, x", "transfer-encoding", "close, content-length", "X, close", "trailers, gzip", "trailers;q=0", "100-Continue", "100-continue, x", "Content-Length", "X", "a\tb", "a\rb", "a\x00b", "a\x7fb", "ü", " h ", "h \t", "for=6.6.6.6", "6.6.6.6", "no-cache", ",", ", ,", "Upgrade, HTTP2-Settings", "keep-alive, close", "[::1", "]", "[fe80::1%25x]", "h:", "a b", "`", "h;x", "h#"}
	someFields   = []string{"Content-Length: 5", "Transfer-Encoding: chunked", "Connection: close", "Connection: keep-alive", "X: y", "Expect: 100-continue", "Upgrade: websocket", "Connection: Upgrade", "TE: trailers", "Connection: TE", "Trailer: X", "Host: h", "Content-Length: 0", "Trailer: Content-Length", "Trailer: X, Transfer-Encoding", "Trailer: Host", "Trailer: a b", "Transfer-Encoding:chunked", "Transfer-Encoding: Chunked ", "Content-Length:\t5 ", "Host: h:80", "Host:", "Host: [::1]", "Host: a@b", "Host: %68", "Host: h:", "Expect: x", "Expect:", "Expect: 100-Continue", "Connection: close, X", "Connection: Host", "Connection: x-forwarded-for", "Connection: ,", "Upgrade: h2c", "Upgrade: WebSocket", "Upgrade: websocket, h2c", "X-Request-Id: abc", "X-Request-Id: a b", "Proxy-Authorization: x", "Content-Length: 005", "Content-Length: 6", "Content-Length: ", "Transfer-Encoding: ", "TE: trailers;q=0.5", "Forwarded: for=x", "Cookie: a=b", "Cookie: c=d", "Content-Length: 5,5", "Date: x", "Pragma: no-cache", "Range: bytes=0-1", "User-Agent: x", "User-Agent:", "Accept-Encoding: gzip", "X: a\tb", "X: \xfc", "Keep-Alive: 5", "Proxy-Connection: close"}
	someStarts   = []string{"HTTP/1.1 200 OK", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified", "HTTP/1.1 100 Continue", "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 103 Early Hints", "HTTP/1.1 500 \xff", "HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1 099 X", "HTTP/1.1 999 X", "HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "http/1.1 200 OK", "HTTP/1.1 +20 OK", "HTTP/1.1 -12 OK", "ICY 200 OK", "HTTP/1.1 200\tOK", "HTTP/1.1 200 O\x00K", "HTTP/1.1\t200 OK", "HTTP/1.1", "", "HTTP/1.1 2x0 OK", "HTTP/1.1 205 Reset", "HTTP/1.1 206 P"}
	someChunks   = []string{"5\r\nhello\r\n", "5\r\nhello\r\n", "0\r\n\r\n", "0\r\n", "\r\n", "X: y\r\n", "5", "hello", "\r", "\n", ";a=b", ";a", ";a=\"b\"", ";a=\"b;c\"", ";a=\"\\\"\"", ";\"", "; a", " ", "\t", "00000000000000005\r\n", "0000000000000005\r\n", "ffffffffffffffff\r\n", "7fffffffffffffff\r\n", "0x5\r\n", "-5\r\n", "+5\r\n", "5\nhello\r\n", "a\r\n0123456789\r\n", "A\r\n0123456789\r\n", "000\r\n", "Content-Length: 5\r\n", "Host: x\r\n", " folded\r\n", "X : y\r\n", ": y\r\n", "X\r\n", "X: \x00\r\n", "Trailer: X\r\n", ";\x00", ";\x7f", ";ü", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n", "X: a\rb\r\n", "Ü: x\r\n"}
)

// choices are made a byte at a time; when they end, the first of each kind is taken.
type choices []byte

func (c *choices) of(list []string) string {
	if len(*c) == 0 {
		return list[0]
	}
	i := int((*c)[0])
	*c = (*c)[1:]
	if i < 224 { // the beginnings of the lists are what is usual
		return list[i%((len(list)+2)/3)]
	}
	return list[i%len(list)]
}

// end of a line is CR LF unless a byte that is rare says otherwise.
func (c *choices) end() string {
	if len(*c) == 0 || (*c)[0] < 0xf0 {
		if len(*c) > 0 {
			*c = (*c)[1:]
		}
		return "\r\n"
	}
	return c.of(someEnds)
}

func (c *choices) fields(b *bytes.Buffer) {
	for n := 0; len(*c) > 0 && n < 6 && (n == 0 || (*c)[0] < 0xe0); n++ {
		if kind := (*c)[0]; kind < 0xc0 {
			*c = (*c)[1:]
			b.WriteString(someFields[int(kind)%len(someFields)] + c.end())
			continue
		}
		b.WriteString(c.of(someNames) + c.of(someColons) + c.of(someValues) + c.end())
	}
	b.WriteString("\r\n")
}

func (c *choices) request(b *bytes.Buffer) {
	b.WriteString(c.of(someMethods) + " " + c.of(someTargets) + " " + c.of(someVersions) + c.end())
	if len(*c) > 0 && (*c)[0]&3 != 0 { // most are of use
		b.WriteString("Host: h\r\n")
	}
	c.fields(b)
}

func (c *choices) answer(b *bytes.Buffer) {
	b.WriteString(c.of(someStarts) + c.end())
	c.fields(b)
}

func (c *choices) chunks(b *bytes.Buffer) {
	for n := 0; len(*c) > 0 && n < 12; n++ {
		b.WriteString(c.of(someChunks))
	}
	b.WriteString("0\r\n\r\n")
}

func FuzzComposedRequest(f *testing.F) {
	p := catchAll(false)
	composed(f, func(t *testing.T, c choices) {
		var b bytes.Buffer
		c.request(&b)
		requestVerdict(p, b.Bytes()).explained(t, requests)
	})
}

func FuzzComposedAnswer(f *testing.F) {
	composed(f, func(t *testing.T, c choices) {
		var b bytes.Buffer
		c.answer(&b)
		answerVerdict(b.Bytes()).explained(t, answers)
	})
}

func FuzzComposedChunks(f *testing.F) {
	composed(f, func(t *testing.T, c choices) {
		var b bytes.Buffer
		c.chunks(&b)
		chunksVerdict(b.Bytes()).explained(t, bodies)
	})
}

// composed seeds a fuzz target with random choices, so that a plain test run holds the
// two against each other too.
func composed(f *testing.F, test func(*testing.T, choices)) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		c := make([]byte, r.IntN(32))
		for i := range c {
			c[i] = byte(r.Uint32())
		}
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) { test(t, b) })
}
