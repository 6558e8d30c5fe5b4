package proxy

import (
	"strings"
	"testing"
)

const okLine = "HTTP/1.1 200 OK\r\n"

// badAnswers are answers that no client sees.
var badAnswers = []odd{
	{"both lengths", okLine + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"two lengths", okLine + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc"},
	{"a list of lengths", okLine + "Content-Length: 2, 2\r\n\r\nok"},
	{"a length with a plus", okLine + "Content-Length: +2\r\n\r\nok"},
	{"a length below zero", okLine + "Content-Length: -1\r\n\r\n"},
	{"an empty length", okLine + "Content-Length:\r\n\r\n"},
	{"another coding", okLine + "Transfer-Encoding: gzip\r\n\r\nok"},
	{"two codings", okLine + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
	{"chunked twice", okLine + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"identity", okLine + "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"},
	{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"a folded line", okLine + "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok"},
	{"a NUL", okLine + "X: a\x00b\r\nContent-Length: 2\r\n\r\nok"},
	{"a bare CR", okLine + "X: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok"},
	{"a bare LF after the status", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok"},
	{"a bare LF after a field", okLine + "X: a\nContent-Length: 2\r\n\r\nok"},
	{"a bare LF for the empty line", okLine + "Content-Length: 2\r\n\nok"},
	{"a space before the colon", okLine + "Content-Length : 2\r\n\r\nok"},
	{"no colon", okLine + "Content-Length\r\n\r\nok"},
	{"Connection: content-length", okLine + "Connection: content-length\r\nContent-Length: 2\r\n\r\nok"},
	{"Connection: transfer-encoding", okLine + "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"another protocol", "SSH-2.0-OpenSSH\r\n\r\n"},
	{"HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n"},
	{"HTTP/0.9", "<html>\r\n\r\n"},
	{"a status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"},
	{"a status of two digits", "HTTP/1.1 99 X\r\nContent-Length: 2\r\n\r\nok"},
	{"a status below 100", "HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nok"},
	{"a status below 100 before another", "HTTP/1.1 099 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	{"a NUL in the reason", "HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok"},
	{"a head above 64 KiB", okLine + "X: " + strings.Repeat("x", maxHead) + "\r\n\r\n"},
	{"more than 128 fields", okLine + strings.Repeat("X: y\r\n", maxFields) + "Content-Length: 0\r\n\r\n"},
	{"a 101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"},
	{"a 103 with a length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok"},
	{"a 204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello"},
	{"a 204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"a 204 with a body", "HTTP/1.1 204 No Content\r\n\r\nhello"},
	{"a 304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello"},
	{"bytes after its end", okLine + "Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Second: 1\r\n\r\n"},
	{"bytes after the end of one without body", okLine + "Content-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-Second: 1\r\n\r\n"},
	{"bytes after the last chunk", okLine + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nX-Second: 1\r\n\r\n"},
	// Chunks that are bad before the client has seen anything.
	{"no size", okLine + "Transfer-Encoding: chunked\r\n\r\n\r\nok\r\n0\r\n\r\n"},
	{"a size that is no number", okLine + "Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n"},
	{"a size with 0x", okLine + "Transfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n"},
	{"a size with a space", okLine + "Transfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n"},
	{"a size below zero", okLine + "Transfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n"},
	{"a size above 2^64", okLine + "Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n"},
	{"a bare LF after the size", okLine + "Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n"},
	{"a quoted extension without end", okLine + "Transfer-Encoding: chunked\r\n\r\n2;a=\"b\r\nok\r\n0\r\n\r\n"},
	{"a control byte in an extension", okLine + "Transfer-Encoding: chunked\r\n\r\n2;a\x01\r\nok\r\n0\r\n\r\n"},
	{"nothing after a chunk", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n"},
	{"a bad second chunk", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n0\r\n\r\n"},
	{"a bad trailer", okLine + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX : a\r\n\r\n"},
}

// TestWireBadAnswers: an answer of which the end could be read in two ways, or which was
// not asked for, is not used, and neither is its connection. The client's goes on.
func TestWireBadAnswers(t *testing.T) {
	var wires []wire
	for _, c := range badAnswers {
		wires = append(wires, wire{name: c.name, sent: get, row: []talk{{saw: gotten, says: c.sent}}, got: refusedOn(502, errBadAnswer, ""), spent: true})
	}
	const upgrade = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	const upgraded = "GET / HTTP/1.1\r\nHost: h\r\n{ours}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	for _, c := range []struct{ name, sent, saw, says string }{
		{"a body to a HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: h\r\n{ours}\r\n", okLine + "Content-Length: 5\r\n\r\nhello"},
		{"chunks to a HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: h\r\n{ours}\r\n", okLine + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"an upgrade to something else", upgrade, upgraded, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"},
		{"an upgrade to nothing", upgrade, upgraded, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"},
		{"an upgrade that Connection does not name", upgrade, upgraded, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"},
	} {
		got := refusedOn(502, errBadAnswer, "")
		if strings.HasPrefix(c.sent, "HEAD") {
			got = headOnly(got)
		}
		wires = append(wires, wire{name: c.name, sent: c.sent, row: []talk{{saw: c.saw, says: c.says}}, got: got, spent: true})
	}
	runWires(t, append(wires,
		wire{name: "nothing at all", sent: get, row: []talk{{saw: gotten, hangup: true}}, got: refusedOn(502, errUnreached, "")},
		wire{name: "half a head", sent: get, row: []talk{{saw: gotten, says: okLine + "Content-", hangup: true}}, got: refusedOn(502, errUnreached, "")},
		wire{name: "an upgrade of a POST", sent: "POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", spent: true, got: refusedOn(502, errBadAnswer, ""),
			row: []talk{{saw: "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 0\r\n\r\n", says: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"}}},
	))
}

// TestWireAnswers: what was understood goes on in the form that the client's version and
// its request allow.
func TestWireAnswers(t *testing.T) {
	const head, headGotten = "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: h\r\n{ours}\r\n"
	const te, teGotten = "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n{ours}Connection: TE\r\nTE: trailers\r\n\r\n"
	const chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	const framing = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: i\r\nConnection: close\r\nSet-Cookie: a\r\nLocation: /\r\nX-Orch-Turn: 9\r\nTrailer: X\r\nCache-Control: no-store\r\n"
	ok := func(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields + "Content-Length: 2\r\n\r\nok" }
	runWires(t, []wire{
		{name: "a length", sent: get, row: []talk{{saw: gotten, says: ok("")}}, got: ok("")},
		{name: "no reason", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 299\r\nContent-Length: 0\r\n\r\n"}}, got: "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"},
		{name: "chunks", sent: get, row: []talk{{saw: gotten, says: chunks + "2;a=b\r\nok\r\n0A\r\n, the end.\r\n0;c\r\n\r\n"}}, got: chunks + "2\r\nok\r\na\r\n, the end.\r\n0\r\n\r\n"},
		{name: "no chunk", sent: get, row: []talk{{saw: gotten, says: chunks + "0\r\n\r\n"}}, got: chunks + "0\r\n\r\n"},
		{name: "until it closes", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\n\r\nto the end", hangup: true}}, got: chunks + "a\r\nto the end\r\n0\r\n\r\n"},
		{name: "a row of HTTP/1.0", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"}}, got: ok(""), spent: true},
		{name: "a row of HTTP/1.0 with keep-alive", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"}}, got: ok("")},
		{name: "a row that closes", sent: get, row: []talk{{saw: gotten, says: ok("Connection: close\r\n")}}, got: ok(""), spent: true},

		{name: "HEAD with a length", sent: head, row: []talk{{saw: headGotten, says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"}}, got: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{name: "HEAD with chunked", sent: head, row: []talk{{saw: headGotten, says: chunks}}, got: "HTTP/1.1 200 OK\r\n\r\n"},
		{name: "HEAD with neither", sent: head, row: []talk{{saw: headGotten, says: "HTTP/1.1 200 OK\r\n\r\n"}}, got: "HTTP/1.1 200 OK\r\n\r\n"},
		{name: "204", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 204 No Content\r\n\r\n"}}, got: "HTTP/1.1 204 No Content\r\n\r\n"},
		{name: "204 with a length of 0", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"}}, got: "HTTP/1.1 204 No Content\r\n\r\n"},
		{name: "304", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"}}, got: "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"},
		{name: "304 with the length that 200 would have", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"}}, got: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
		{name: "103", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\nX: 1\r\n\r\n" + ok("")}}, got: "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + ok("")},
		{name: "102 and 103", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ok("")}}, got: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ok("")},
		{name: "100 that nobody waits for", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 100 Continue\r\n\r\n" + ok("")}}, got: ok("")},
		{name: "103 and a bad answer", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"}}, got: "HTTP/1.1 103 Early Hints\r\n\r\n" + refusedOn(502, errBadAnswer, ""), spent: true},

		{name: "trailers that nobody wants", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"}}, got: chunks + "0\r\n\r\n"},
		{name: "trailers", sent: te, row: []talk{{saw: teGotten, says: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"}}, got: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{name: "trailers that frame or route", sent: te, row: []talk{{saw: teGotten, says: chunks + "0\r\n" + framing + "X-Sum: 1\r\n\r\n"}}, got: chunks + "0\r\nX-Sum: 1\r\n\r\n"},

		// What ends before its end ends the client's connection too: nothing else would tell.
		{name: "chunks cut off", sent: get, row: []talk{{saw: gotten, says: chunks + "2\r\nok\r\n", hangup: true}}, got: chunks + "2\r\nok\r\n", ends: true},
		{name: "a chunk cut off", sent: get, row: []talk{{saw: gotten, says: chunks + "5\r\nok", hangup: true}}, got: chunks + "2\r\nok\r\n", ends: true},
		{name: "a length cut off", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", hangup: true}}, got: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", ends: true},
		{name: "a bad chunk after a good one", sent: get, row: []talk{{saw: gotten, says: chunks + "2\r\nok\r\n", later: "zz\r\n"}}, got: chunks + "2\r\nok\r\n", ends: true, spent: true},
		{name: "more than the length, late", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", later: "later"}}, got: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", ends: true, spent: true},
		// What comes behind a delivered answer is not the next one.
		{name: "an answer to nothing", sent: get, row: []talk{{saw: gotten, says: ok(""), later: "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother"}}, got: ok(""), spent: true},
		{name: "a body of a 204, late", sent: get, row: []talk{{saw: gotten, says: "HTTP/1.1 204 No Content\r\n\r\n", later: "hello"}}, got: "HTTP/1.1 204 No Content\r\n\r\n", spent: true},
		{name: "a body of a HEAD, late", sent: head, row: []talk{{saw: headGotten, says: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", later: "hello"}}, got: "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", spent: true},
	})
}
