package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

func aboutID(id string) string {
	return strings.Replace(ours, newID, "X-Request-Id: "+id+"\r\n", 1)
}

// requestFields are fields of requests, and how they go on.
var requestFields = []passing{
	{"fields that nobody knows", "Accept: */*\r\nX-Y: 1\r\naccept: b\r\n", "Accept: */*\r\nX-Y: 1\r\naccept: b\r\n{ours}"},
	{"hop by hop", "Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: a\r\nProxy-Authenticate: a\r\nConnection: keep-alive\r\nX: 1\r\n", "X: 1\r\n{ours}"},
	{"what Connection names", "X-A: 1\r\nX-B: 2\r\nConnection: x-a, close-not\r\nConnection: X-C\r\nX-C: 3\r\nx-a: 4\r\n", "X-B: 2\r\n{ours}"},
	{"TE", "TE: gzip\r\n", "{ours}"},
	{"TE: trailers", "TE: gzip;q=0.5, trailers;q=1\r\nConnection: TE\r\n", "{ours}Connection: TE\r\nTE: trailers\r\n"},
	{"Trailer without chunks", "Trailer: X\r\n", "{ours}"},
	{"Expect without a body", "Expect: 100-continue\r\n", "{ours}"},
	// For whom: the word of a stranger is nobody's.
	{"X-Forwarded-…", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n", "{ours}"},
	{"X-Forwarded-… in any case, twice", "x-forwarded-for: 6.6.6.6\r\nX-FORWARDED-FOR: 6.6.6.7\r\nforwarded: for=6.6.6.6\r\n", "{ours}"},
	{"X-Forwarded-… of other names", "X-Forwarded-Port: 443\r\nX-Forwarded-Server: evil\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-By: evil\r\nX-Forwarded-For-Original: 6.6.6.6\r\nX-Forwarded-User: root\r\n", "{ours}"},
	{"X-Real-IP and its kin", "X-Real-IP: 6.6.6.6\r\nX-Client-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6\r\nFastly-Client-IP: 6.6.6.6\r\nX-Cluster-Client-IP: 6.6.6.6\r\n", "{ours}"},
	{"another path", "X-Original-URL: /api/v1/_crash\r\nX-Rewrite-URL: /api/v1/_crash\r\n", "{ours}"},
	{"underscores", "X_Forwarded_For: 6.6.6.6\r\nX-Real_IP: 6.6.6.6\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Y: 1\r\n", "X_Y: 1\r\n{ours}"},
	{"Proxy", "Proxy: http://evil/\r\n", "{ours}"},
	{"names that only begin so", "X-Forwarded: 1\r\nX-Real-IPs: 1\r\nX-Forward: 1\r\n", "X-Forwarded: 1\r\nX-Real-IPs: 1\r\nX-Forward: 1\r\n{ours}"},
	{"the node's own", "X-Orch-Node: n9\r\nX-Orch-Container: acts/9\r\nX-Orch-Turn: 9\r\n", "{ours}"},
	{"Via is added to", "Via: 1.0 a\r\n", "Via: 1.0 a\r\n{ours}"},
	// The request's ID.
	{"an ID", "X-Request-Id: 4bf9/2f-a.b_c:d=e+f\r\n", aboutID("4bf9/2f-a.b_c:d=e+f")},
	{"an empty ID", "X-Request-Id: \r\n", "{ours}"},
	{"an ID with a space", "X-Request-Id: a b\r\n", "{ours}"},
	{"an ID with a quote", "X-Request-Id: a\"b\r\n", "{ours}"},
	{"an ID of 128 bytes", "X-Request-Id: " + strings.Repeat("a", 128) + "\r\n", aboutID(strings.Repeat("a", 128))},
	{"an ID of 129 bytes", "X-Request-Id: " + strings.Repeat("a", 129) + "\r\n", "{ours}"},
	// Upgrades: a server may ignore what it is offered (RFC 9110, 7.8). What matters is
	// that the row is not offered it.
	{"h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "{ours}"},
	{"h2c that Connection does not name", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "{ours}"},
	{"h2c beside websocket", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", "{ours}"},
	{"another upgrade", "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n", "{ours}"},
	{"websocket that Connection does not name", "Upgrade: websocket\r\n", "{ours}"},
	{"websocket that the row does not take", "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\n{ours}Connection: Upgrade\r\nUpgrade: websocket\r\n"},
}

// TestWireHeaders: what is of the client's connection ends here, what the node says of
// itself is never the client's word, and all else goes on as it came.
func TestWireHeaders(t *testing.T) {
	var wires []wire
	for _, c := range requestFields {
		wires = append(wires, wire{name: c.name, sent: "GET / HTTP/1.1\r\nHost: h\r\n" + c.sent + "\r\n", row: []talk{{saw: "GET / HTTP/1.1\r\nHost: h\r\n" + c.saw + "\r\n", says: empty}}, got: empty})
	}
	runWires(t, wires)
}

// TestWireTrusted: what a trusted proxy says is passed on, and added to.
func TestWireTrusted(t *testing.T) {
	trust := func(prefix string) func(*Config, *Service) {
		return func(c *Config, _ *Service) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(prefix)} }
	}
	const said = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2, 192.0.2.3\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: acts.example\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n"
	const added = "X-Forwarded-Port: 443\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n" +
		"X-Forwarded-For: 192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: acts.example\r\nForwarded: for=127.0.0.1;host=\"h\";proto=http\r\nVia: 1.1 orchd\r\n" + newID
	honestly := func(c *Config, s *Service) { trust("127.0.0.0/8")(c, s) }
	runWires(t, []wire{
		{name: "trusted", limit: honestly, sent: "GET / HTTP/1.1\r\nHost: h\r\n" + said + "\r\n", row: []talk{{saw: "GET / HTTP/1.1\r\nHost: h\r\n" + added + "\r\n", says: empty}}, got: empty},
		{name: "trusted, and says nothing", limit: honestly, sent: get, row: []talk{{saw: gotten, says: empty}}, got: empty},
		{name: "trusted, and says it with underscores", limit: honestly, sent: "GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n", row: []talk{{saw: gotten, says: empty}}, got: empty},
		{name: "others are", limit: trust("10.0.0.0/8"), sent: "GET / HTTP/1.1\r\nHost: h\r\n" + said + "\r\n", row: []talk{{saw: gotten, says: empty}}, got: empty},
	})
}

// answerFields are fields of answers, how they go on, and whether the connection ends.
var answerFields = []struct {
	name, says, got string
	spent           bool
}{
	{"fields that nobody knows", "Server: x\r\nSet-Cookie: a\r\nset-cookie: b\r\nX: \xe9\r\n", "Server: x\r\nSet-Cookie: a\r\nset-cookie: b\r\nX: \xe9\r\n", false},
	{"hop by hop", "Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authenticate: a\r\nConnection: keep-alive\r\nX: 1\r\n", "X: 1\r\n", false},
	{"what Connection names", "X-A: 1\r\nConnection: x-a\r\nConnection: X-B, close\r\nX-B: 2\r\nX-C: 3\r\n", "X-C: 3\r\n", true},
	{"an upgrade that is offered", "Connection: Upgrade\r\nUpgrade: h2, h2c\r\n", "", false},
	{"Trailer and TE without chunks", "Trailer: X\r\nTE: trailers\r\n", "", false},
	{"fields that only mean something in requests", "X-Request-Id: 1\r\nX-Forwarded-For: a\r\nX-Real-IP: b\r\nForwarded: c\r\nX_Request_Id: 2\r\n", "X-Request-Id: 1\r\nX-Forwarded-For: a\r\nX-Real-IP: b\r\nForwarded: c\r\nX_Request_Id: 2\r\n", false},
	{"the node's own", "X-Orch-Node: n9\r\nX-Orch-Container: acts/9\r\nX-Orch-Turn: 9\r\n", "", false},
}

// TestWireAnswerHeaders: an answer's fields go on as they came, less what is of the row's
// connection, and the node's own.
func TestWireAnswerHeaders(t *testing.T) {
	var wires []wire
	for _, c := range answerFields {
		wires = append(wires, wire{name: c.name, sent: get, spent: c.spent, row: []talk{{saw: gotten, says: "HTTP/1.1 200 OK\r\n" + c.says + "Content-Length: 2\r\n\r\nok"}},
			got: "HTTP/1.1 200 OK\r\n" + c.got + "Content-Length: 2\r\n\r\nok"})
	}
	runWires(t, wires)
}
