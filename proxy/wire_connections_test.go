package proxy

import "testing"

// TestWireVersions: a client of HTTP/1.0 gets nothing that it does not know.
func TestWireVersions(t *testing.T) {
	const old, keep = "GET / HTTP/1.0\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	const chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	const closed, kept = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"
	noHost := "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nForwarded: for=127.0.0.1;proto=http\r\nVia: 1.1 orchd\r\n" + newID
	runWires(t, []wire{
		{name: "HTTP/1.0", sent: old + second, row: []talk{{saw: gotten, says: ok}}, got: closed, ends: true},
		{name: "HTTP/1.0 with keep-alive", sent: keep, row: []talk{{saw: gotten, says: ok}}, got: kept},
		{name: "HTTP/1.0 with keep-alive and close", sent: "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive, close\r\n\r\n" + second, row: []talk{{saw: gotten, says: ok}}, got: closed, ends: true},
		{name: "HTTP/1.0 without Host", sent: "GET / HTTP/1.0\r\n\r\n", row: []talk{{saw: "GET / HTTP/1.1\r\nHost: \r\n" + noHost + "\r\n", says: ok}}, got: closed, ends: true},
		{name: "HTTP/1.0 with a body", sent: "POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", row: []talk{{saw: "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 5\r\n\r\nhello", says: ok}}, got: closed, ends: true},
		{name: "chunks to HTTP/1.0", sent: old, row: []talk{{saw: gotten, says: chunks + "2\r\nok\r\n0\r\n\r\n"}}, got: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", ends: true},
		{name: "chunks to HTTP/1.0 with keep-alive", sent: keep + second, row: []talk{{saw: gotten, says: chunks + "2\r\nok\r\n0\r\nX: 1\r\n\r\n"}}, got: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", ends: true},
		{name: "until it closes to HTTP/1.0", sent: keep, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\n\r\nok", hangup: true}}, got: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", ends: true},
		{name: "1xx to HTTP/1.0", sent: keep, row: []talk{{saw: gotten, says: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ok}}, got: kept},
		{name: "an upgrade of HTTP/1.0", sent: "GET / HTTP/1.0\r\nHost: h\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n", row: []talk{{saw: gotten, says: ok}}, got: kept},
		{name: "refused in HTTP/1.0", sent: "GET /#a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + second, got: refusedWith(400, errTarget), ends: true},

		{name: "HTTP/1.1 with close", sent: "GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n" + second, row: []talk{{saw: gotten, says: ok}}, got: closed, ends: true},
		{name: "HTTP/1.1 with close among others", sent: "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: x,\tclose\r\n\r\n" + second, row: []talk{{saw: gotten, says: ok}}, got: closed, ends: true},
		{name: "a HEAD with close", sent: "HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", row: []talk{{saw: "HEAD / HTTP/1.1\r\nHost: h\r\n{ours}\r\n", says: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"}}, got: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n", ends: true},
	})
}

// TestWirePipelines: requests that come together are answered in their order, one after
// the other.
func TestWirePipelines(t *testing.T) {
	const gotSecond = "GET /second HTTP/1.1\r\nHost: h\r\n{ours}\r\n"
	const one, two, three = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3"
	const post, gotPost = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 5\r\n\r\nhello"
	const chunked, gotChunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\n{ours}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\n\r\n"
	runWires(t, []wire{
		{name: "two", sent: get + second, row: []talk{{saw: gotten, says: one}, {saw: gotSecond, says: two}}, got: one + two},
		{name: "bodies between", sent: post + get + post, row: []talk{{saw: gotPost, says: one}, {saw: gotten, says: two}, {saw: gotPost, says: three}}, got: one + two + three},
		{name: "chunks between", sent: chunked + "\r\n" + get + chunked, row: []talk{{saw: gotChunked, says: one}, {saw: gotten, says: two}, {saw: gotChunked, says: three}}, got: one + two + three},
		{name: "a row that closes between", sent: get + second, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\n1"}, {saw: gotSecond, says: two, anew: true}}, got: one + two},
		{name: "a bad answer between", sent: get + second, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"}, {saw: gotSecond, says: two, anew: true}}, got: refusedOn(502, errBadAnswer, "") + two},
		{name: "a refused one behind", sent: get + "GET / HTTP/1.1\r\nHost : h\r\n\r\n" + second, row: []talk{{saw: gotten, says: one}}, got: one + refusedWith(400, errField), ends: true},
		{name: "half of one behind", sent: get + "GET /second HT", row: []talk{{saw: gotten, says: one}, {saw: gotSecond, says: two}}, got: one, more: []leg{{"TP/1.1\r\nHost: h\r\n\r\n", two}}},
		{name: "one behind an upgrade that is not taken", sent: "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + second,
			row: []talk{{saw: "GET / HTTP/1.1\r\nHost: h\r\n{ours}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", says: one}, {saw: gotSecond, says: two}}, got: one + two},
	})
}

// TestWireBodies: a body that comes after its head streams, and may be answered early.
func TestWireBodies(t *testing.T) {
	const post, gotPost = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 5\r\n\r\n"
	const wait, gotWait = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n{ours}Content-Length: 5\r\n\r\n"
	const chunked, gotChunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\n{ours}Transfer-Encoding: chunked\r\n\r\n"
	const go100, early, hint = "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 103 Early Hints\r\n\r\n"
	const earlyEnd = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
	runWires(t, []wire{
		{name: "a length, later", sent: post, row: []talk{{saw: gotPost, says: hint}, {saw: "hello", says: empty}}, got: hint, more: []leg{{"hello", empty}}},
		{name: "chunks, later", sent: chunked, row: []talk{{saw: gotChunked, says: hint}, {saw: "5\r\nhello\r\n", says: hint}, {saw: "0\r\n\r\n", says: empty}}, got: hint, more: []leg{{"5\r\nhello\r\n", hint}, {"0\r\n\r\n", empty}}},
		{name: "a chunk in pieces", sent: chunked, row: []talk{{saw: gotChunked, says: hint}, {saw: "2\r\nhe\r\n", says: hint}, {saw: "3\r\nllo\r\n0\r\n\r\n", says: empty}}, got: hint, more: []leg{{"5;a\r\nhe", hint}, {"llo\r\n0\r\n\r\n", empty}}},
		{name: "100-continue", sent: wait, row: []talk{{saw: gotWait, says: go100}, {saw: "hello", says: empty}}, got: go100, more: []leg{{"hello", empty}}},
		{name: "100-continue and 103", sent: wait, row: []talk{{saw: gotWait, says: hint + go100}, {saw: "hello", says: empty}}, got: hint + go100, more: []leg{{"hello", empty}}},
		{name: "100-continue that nobody waits for", sent: wait + "hello", row: []talk{{saw: gotWait + "hello", says: go100 + empty}}, got: go100 + empty},
		{name: "no 100-continue", sent: wait, row: []talk{{saw: gotWait, says: early}}, got: earlyEnd, ends: true, spent: true},
		{name: "an answer before the body", sent: post, row: []talk{{saw: gotPost, says: early}}, got: earlyEnd, ends: true, spent: true},
		{name: "an answer within the body", sent: post + "he", row: []talk{{saw: gotPost + "he", says: early}}, got: earlyEnd, ends: true, spent: true},
		{name: "an answer within the chunks", sent: chunked + "5\r\nhello\r\n", row: []talk{{saw: gotChunked + "5\r\nhello\r\n", says: early}}, got: earlyEnd, ends: true, spent: true},
		{name: "a bad answer before the body", sent: post, row: []talk{{saw: gotPost, says: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}}, got: refusedWith(502, errBadAnswer), ends: true, spent: true},
		{name: "a bad chunk after an answer", sent: chunked + "5\r\nhello\r\n", row: []talk{{saw: gotChunked + "5\r\nhello\r\n", says: hint}}, got: hint, more: []leg{{"zz\r\n" + second, refusedWith(400, errChunk)}}, ends: true, spent: true},
	})
}

// TestWireUpgrade: a WebSocket's bytes go on as they are, in both directions.
func TestWireUpgrade(t *testing.T) {
	const ask = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: a\r\n\r\n"
	const saw = "GET /ws HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: a\r\n{ours}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	const says = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: b\r\nX-Orch-Node: forged\r\n\r\n"
	const got = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	runWires(t, []wire{
		{name: "after the answer", sent: ask, row: []talk{{saw: saw, says: says}, {saw: "GET /", says: "\x00HTTP", hangup: true}}, got: got, more: []leg{{"GET /", "\x00HTTP"}}, ends: true},
		{name: "together with it", sent: ask + "early", row: []talk{{saw: saw, says: says + "hello"}, {saw: "early", hangup: true}}, got: got + "hello", ends: true},
	})
}
