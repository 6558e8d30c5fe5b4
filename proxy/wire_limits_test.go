package proxy

import (
	"strings"
	"testing"
	"time"
)

// TestWireLimits: each limit has its own status; what is exactly at it is taken.
func TestWireLimits(t *testing.T) {
	heads := func(c *Config, _ *Service) { c.MaxHead, c.MaxFields, c.MaxTarget = 1024, 8, 64 }
	body := func(_ *Config, s *Service) { s.MaxBody = 5 }
	fields := func(n int) string { return "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", n-1) + "\r\n" }
	head := func(n int) string {
		const around = "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n"
		return "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", n-len(around)) + "\r\n\r\n"
	}
	target := func(n int) string { return "/" + strings.Repeat("t", n-1) }
	const chunked, gotChunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\n{ours}Transfer-Encoding: chunked\r\n\r\n"
	const hint = "HTTP/1.1 103 Early Hints\r\n\r\n"
	tooLarge := refusedWith(413, errTooLarge)
	runWires(t, []wire{
		{name: "a head at the limit", limit: heads, sent: head(1024), row: []talk{{saw: strings.Replace(head(1024), "\r\n\r\n", "\r\n{ours}\r\n", 1), says: empty}}, got: empty},
		{name: "a head above the limit", limit: heads, sent: head(1025) + second, got: refusedWith(431, errHeadSize), ends: true},
		{name: "a head above the limit without end", limit: heads, sent: "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 2000), got: refusedWith(431, errHeadSize), ends: true},
		{name: "fields at the limit", limit: heads, sent: fields(8), row: []talk{{saw: strings.Replace(fields(8), "\r\n\r\n", "\r\n{ours}\r\n", 1), says: empty}}, got: empty},
		{name: "fields above the limit", limit: heads, sent: fields(9) + second, got: refusedWith(431, errFields), ends: true},
		{name: "a target at the limit", limit: heads, sent: "GET " + target(64) + " HTTP/1.1\r\nHost: h\r\n\r\n", row: []talk{{saw: "GET " + target(64) + " HTTP/1.1\r\nHost: h\r\n{ours}\r\n", says: empty}}, got: empty},
		{name: "a target above the limit", limit: heads, sent: "GET " + target(65) + " HTTP/1.1\r\nHost: h\r\n\r\n" + second, got: refusedWith(414, errTargetSize), ends: true},
		{name: "a target above the limit without end", limit: heads, sent: "GET " + target(200), got: refusedWith(414, errTargetSize), ends: true},
		{name: "a target above the limit of the head", limit: heads, sent: "GET " + target(2000) + " HTTP/1.1\r\nHost: h\r\n\r\n" + second, got: refusedWith(414, errTargetSize), ends: true},
		{name: "a long line that is no request", limit: heads, sent: strings.Repeat("x", 2000), got: refusedWith(414, errTargetSize), ends: true},

		{name: "a body at the limit", limit: body, sent: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", row: []talk{{saw: "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 5\r\n\r\nhello", says: empty}}, got: empty},
		{name: "a body above the limit that has come", limit: body, sent: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nhello!", got: refusedOn(413, errTooLarge, "")},
		{name: "a body above the limit that has not", limit: body, sent: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 600\r\n\r\n" + second, got: tooLarge, ends: true},
		{name: "a body above the limit that waits for 100", limit: body, sent: "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n", got: tooLarge, ends: true},
		{name: "chunks at the limit", limit: body, sent: chunked + "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", row: []talk{{saw: gotChunked + "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", says: empty}}, got: empty},
		{name: "a chunk above the limit", limit: body, sent: chunked + "6\r\nhello!\r\n0\r\n\r\n" + second, row: []talk{{saw: gotChunked}}, got: tooLarge, ends: true, spent: true},
		{name: "chunks above the limit together", limit: body, sent: chunked + "3\r\nhel\r\n", row: []talk{{saw: gotChunked + "3\r\nhel\r\n", says: hint}}, got: hint, more: []leg{{"3\r\nlo!\r\n0\r\n\r\n" + second, tooLarge}}, ends: true, spent: true},
		{name: "an upload above the limit for chunks of it", limit: body, sent: chunked + "ffffffff\r\nhello!", row: []talk{{saw: gotChunked}}, got: tooLarge, ends: true, spent: true},

		{name: "a head that does not come", limit: func(c *Config, _ *Service) { c.HeadTimeout = 100 * time.Millisecond }, sent: "GET / HT", got: refusedWith(408, errHeadTime), ends: true},
		{name: "a head that does not end", limit: func(c *Config, _ *Service) { c.HeadTimeout = 100 * time.Millisecond }, sent: "GET / HTTP/1.1\r\nHost: h\r\n", got: refusedWith(408, errHeadTime), ends: true},
		{name: "a body that does not come", limit: func(c *Config, _ *Service) { c.BodyTimeout = 300 * time.Millisecond }, sent: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
			row: []talk{{saw: "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 5\r\n\r\n"}}, got: refusedWith(408, errBodyTime), ends: true, spent: true},
		{name: "chunks that do not come", limit: func(c *Config, _ *Service) { c.BodyTimeout = 300 * time.Millisecond }, sent: chunked,
			row: []talk{{saw: gotChunked}}, got: refusedWith(408, errBodyTime), ends: true, spent: true},
	})
}

// TestWireNobody: what no row could answer is answered, and the connection goes on where
// the request's end is known.
func TestWireNobody(t *testing.T) {
	closed := func(_ *Config, s *Service) { s.Routes = []string{"/honest"} }
	runWires(t, []wire{
		{name: "no service", limit: closed, sent: get, got: refusedOn(404, errNoService, "")},
		{name: "no service, and close", limit: closed, sent: "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + second, got: refusedWith(404, errNoService), ends: true},
		{name: "no service, with a body", limit: closed, sent: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", got: refusedOn(404, errNoService, "")},
		{name: "no service, with a body to come", limit: closed, sent: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n" + second, got: refusedWith(404, errNoService), ends: true},
		{name: "no service, with chunks", limit: closed, sent: "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, got: refusedWith(404, errNoService), ends: true},
		{name: "no service, HTTP/1.0 with keep-alive", limit: closed, sent: "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", got: refusedOn(404, errNoService, "Connection: keep-alive\r\n")},
		{name: "no service, HEAD", limit: closed, sent: "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", got: headOnly(refusedOn(404, errNoService, ""))},
		{name: "no service, HEAD and close", limit: closed, sent: "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + second, got: headOnly(refusedWith(404, errNoService)), ends: true},
		{name: "internals", sent: "POST /api/v1/_crash HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", got: refusedOn(403, errInternal, "")},
		{name: "internals, in an absolute target", sent: "POST http://h/x/../api/v1/%5Fcrash HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", got: refusedOn(403, errInternal, "")},
	})
}

// headOnly is an answer without its body, as HEAD gets it.
func headOnly(answer string) string {
	head, _, _ := strings.Cut(answer, "\r\n\r\n")
	return head + "\r\n\r\n"
}
