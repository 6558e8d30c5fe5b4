package proxy

import (
	"strings"
	"testing"
)

// badStarts are requests for something that cannot be had here.
var badStarts = []badRequest{
	// Versions.
	{"HTTP/0.9", "GET /\r\n", 400, errStart},
	{"HTTP/0.9 with an empty line", "GET /\r\n\r\n", 400, errStart},
	{"HTTP/0.9 with fields", "GET /\r\nHost: h\r\n\r\n", 400, errStart},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505, errVersion},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, errVersion},
	{"HTTP/3.1", "GET / HTTP/3.1\r\nHost: h\r\n\r\n", 505, errVersion},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505, errVersion},
	{"no version", "GET / \r\nHost: h\r\n\r\n", 400, errStart},
	{"a version in lower case", "GET / http/1.1\r\nHost: h\r\n\r\n", 400, errStart},
	{"a version of two digits", "GET / HTTP/1.10\r\nHost: h\r\n\r\n", 400, errStart},
	{"a version of one digit", "GET / HTTP/1\r\nHost: h\r\n\r\n", 400, errStart},
	{"another protocol", "GET / RTSP/1.0\r\nHost: h\r\n\r\n", 400, errStart},
	{"TLS on the plain port", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\n", 400, errLine},
	// The line.
	{"two spaces", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400, errTarget},
	{"a space at the end", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n", 400, errStart},
	{"a tab", "GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n", 400, errStart},
	{"no method", " / HTTP/1.1\r\nHost: h\r\n\r\n", 400, errStart},
	{"a method that is no token", "G(T / HTTP/1.1\r\nHost: h\r\n\r\n", 400, errStart},
	{"CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 501, errConnect},
	// Targets.
	{"a space in the target", "GET /a b" + to, 400, errTarget},
	{"a fragment", "GET /#a" + to, 400, errTarget},
	{"a target that is no ASCII", "GET /\xc3\xa9" + to, 400, errTarget},
	{"a target without a slash", "GET x" + to, 400, errTarget},
	{"an escape without digits", "GET /%zz" + to, 400, errTarget},
	{"an escape cut off", "GET /%4" + to, 400, errTarget},
	{"an asterisk without OPTIONS", "GET *" + to, 400, errTarget},
	// Host.
	{"no Host", "GET / HTTP/1.1\r\n\r\n", 400, errHost},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400, errHost},
	{"one Host twice", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400, errHost},
	{"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n", 400, errHost},
	{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, errHost},
	{"an empty Host beside one", "GET / HTTP/1.1\r\nHost:\r\nHost: h\r\n\r\n", 400, errHost},
	{"a list of Hosts", "GET / HTTP/1.1\r\nHost: h, i\r\n\r\n", 400, errHost},
	{"a Host with a user", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400, errHost},
	{"a Host with a path", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", 400, errHost},
	{"a Host with a quote", "GET / HTTP/1.1\r\nHost: h\"\r\n\r\n", 400, errHost},
	{"a port that is no number", "GET / HTTP/1.1\r\nHost: h:x\r\n\r\n", 400, errHost},
	{"two ports", "GET / HTTP/1.1\r\nHost: h:1:2\r\n\r\n", 400, errHost},
	{"a port of six digits", "GET / HTTP/1.1\r\nHost: h:100000\r\n\r\n", 400, errHost},
	{"a port without a Host", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", 400, errHost},
	{"an address without end", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, errHost},
	{"an address and a name", "GET / HTTP/1.1\r\nHost: [::1]h\r\n\r\n", 400, errHost},
	{"an escape in Host without digits", "GET / HTTP/1.1\r\nHost: %zz\r\n\r\n", 400, errHost},
	// The target says another host, or another scheme.
	{"a target of another host", "GET http://other/" + to, 400, errHost},
	{"a target of another port", "GET http://h:8080/" + to, 400, errHost},
	{"a target with a user", "GET http://u@h/" + to, 400, errHost},
	{"a target of no host", "GET http:///" + to, 400, errHost},
	{"a target with a host and no Host", "GET http://h/ HTTP/1.1\r\n\r\n", 400, errHost},
	{"a target of https on the plain port", "GET https://h/" + to, 400, errTarget},
	{"a target of another scheme", "GET ftp://h/" + to, 400, errTarget},
	// What Connection may not name.
	{"Connection: content-length", "POST / HTTP/1.1\r\nHost: h\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello", 400, errConnection},
	{"Connection: host", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close, Host\r\n\r\n", 400, errConnection},
	{"Connection: transfer-encoding", "POST / HTTP/1.1\r\nHost: h\r\nConnection: TRANSFER-ENCODING\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, errConnection},
	{"Connection: x-forwarded-for", "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive,x-forwarded-for\r\n\r\n", 400, errConnection},
	{"Connection: x-forwarded-anything", "GET / HTTP/1.1\r\nHost: h\r\nConnection: x-forwarded-anything\r\n\r\n", 400, errConnection},
	{"Connection: forwarded", "GET / HTTP/1.1\r\nHost: h\r\nConnection: \t, forwarded ,\r\n\r\n", 400, errConnection},
	{"Connection: x-real-ip", "GET / HTTP/1.1\r\nHost: h\r\nConnection: x-real-ip\r\n\r\n", 400, errConnection},
	{"Connection: authorization", "GET / HTTP/1.1\r\nHost: h\r\nConnection: authorization\r\nAuthorization: a\r\n\r\n", 400, errConnection},
	{"Connection: more than it may", "GET / HTTP/1.1\r\nHost: h\r\nConnection: " + strings.Repeat("a, ", 65) + "a\r\n\r\n", 400, errOptions},
	{"Connection: cookie, in the second field", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nConnection: cookie\r\nCookie: a\r\n\r\n", 400, errConnection},
	{"an expectation that is none", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417, errExpect},
}

// TestWireStart: the request line, and the host that it and Host must agree on. What is
// not understood is refused, and nothing behind it is read.
func TestWireStart(t *testing.T) {
	var wires []wire
	for _, c := range badStarts {
		wires = append(wires, wire{name: c.name, sent: c.sent + second, got: refusedWith(c.code, c.err), ends: true})
	}
	runWires(t, wires)
}

func aboutHost(host string) string {
	return "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: " + host + "\r\nForwarded: for=127.0.0.1;host=\"" + host + "\";proto=http\r\nVia: 1.1 orchd\r\n" + newID
}

// goodStarts are requests, and how they go on.
var goodStarts = []passing{
	{"a target of this host", "GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a?b HTTP/1.1\r\nHost: h\r\n{ours}\r\n"},
	{"a target of this host in another case", "GET HTTP://H/a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1\r\nHost: h\r\n{ours}\r\n"},
	{"a target without a path", "GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n{ours}\r\n"},
	{"a target with a port", "GET http://h:80/ HTTP/1.1\r\nHost: h:80\r\n\r\n", "GET / HTTP/1.1\r\nHost: h:80\r\n" + aboutHost("h:80") + "\r\n"},
	{"escapes and odd bytes", "GET /%41/{}|^`<>\"\\?a=%zz&b HTTP/1.1\r\nHost: h\r\n\r\n", "GET /%41/{}|^`<>\"\\?a=%zz&b HTTP/1.1\r\nHost: h\r\n{ours}\r\n"},
	{"empty and dot segments", "GET //a/../b/./c HTTP/1.1\r\nHost: h\r\n\r\n", "GET //a/../b/./c HTTP/1.1\r\nHost: h\r\n{ours}\r\n"},
	{"a method of its own", "brew /pot HTTP/1.1\r\nHost: h\r\n\r\n", "brew /pot HTTP/1.1\r\nHost: h\r\n{ours}\r\n"},
	{"an address", "GET / HTTP/1.1\r\nhost: [2001:db8::1]:8080\r\n\r\n", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n" + aboutHost("[2001:db8::1]:8080") + "\r\n"},
	{"Host is the last", "GET / HTTP/1.1\r\nX: 1\r\nHost:h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n{ours}\r\n"},
}

// TestWireTargets: what goes on is the path as it came, and Host.
func TestWireTargets(t *testing.T) {
	var wires []wire
	for _, c := range goodStarts {
		wires = append(wires, wire{name: c.name, sent: c.sent, row: []talk{{saw: c.saw, says: empty}}, got: empty})
	}
	// It speaks of no path, and routes are paths.
	wires = append(wires, wire{name: "an asterisk", sent: "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", got: refusedOn(404, errNoService, "")})
	runWires(t, wires)
}
