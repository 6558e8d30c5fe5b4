package proxy

import (
	"strings"
	"testing"
)

// badFraming are requests whose end is not known for sure.
var badFraming = []badRequest{
	// Both lengths, and lengths that differ or are none.
	{"length and chunked", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, errBothLengths},
	{"chunked and length", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, errBothLengths},
	{"chunked and length 0", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 400, errBothLengths},
	{"two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400, errLength},
	{"a list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\nhello", 400, errLength},
	{"a list of two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 5\r\n\r\nhello", 400, errLength},
	{"an empty length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", 400, errLength},
	{"a length with a plus", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", 400, errLength},
	{"a length below zero", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\nhello", 400, errLength},
	{"a hexadecimal length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\nhello", 400, errLength},
	{"a length with a point", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5.0\r\n\r\nhello", 400, errLength},
	{"a length with a gap", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5 5\r\n\r\nhello", 400, errLength},
	{"a length of 2^64 and 5", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551621\r\n\r\nhello", 400, errLength},
	// Codings.
	{"an empty coding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"identity", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", 400, errCoding},
	{"identity and a length", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 400, errCoding},
	{"gzip", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"gzip before chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"gzip after chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"gzip and chunked, two fields", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"chunked and identity, two fields", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"chunked twice", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"chunked twice, two fields", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"chunked with a parameter", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"chunked in quotes", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"chunked and a comma", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"almost chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, errCoding},
	{"chunked behind a vertical tab", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, errField},
	{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, errCoding},
	// Bytes that end a line for some.
	{"a bare CR in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 5\r\n\r\n", 400, errField},
	{"a bare CR in a name", "GET / HTTP/1.1\r\nHost: h\r\nX\r: a\r\n\r\n", 400, errField},
	{"a bare CR in the target", "GET /\r HTTP/1.1\r\nHost: h\r\n\r\n", 400, errTarget},
	{"a CR before the end of a line", "GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", 400, errField},
	{"a bare LF after the request line", "GET / HTTP/1.1\nHost: h\r\n\r\n", 400, errLine},
	{"a bare LF after a field", "GET / HTTP/1.1\r\nHost: h\nX: a\r\n\r\n", 400, errLine},
	{"a bare LF for the empty line", "GET / HTTP/1.1\r\nHost: h\r\n\n", 400, errLine},
	{"a bare LF before the request", "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, errLine},
	{"a NUL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", 400, errField},
	{"a NUL in a name", "GET / HTTP/1.1\r\nHost: h\r\nX\x00: a\r\n\r\n", 400, errField},
	{"a NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, errTarget},
	{"a DEL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n", 400, errField},
	// Lines that are none.
	{"a folded line", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400, errField},
	{"a line folded by a tab", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tTransfer-Encoding: chunked\r\n\r\n", 400, errField},
	{"a fold before the first field", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400, errField},
	{"a space before the colon", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\n", 400, errField},
	{"a tab before the colon", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length\t: 5\r\n\r\n", 400, errField},
	{"a space in a name", "GET / HTTP/1.1\r\nHost: h\r\nX Y: 5\r\n\r\n", 400, errField},
	{"no name", "GET / HTTP/1.1\r\nHost: h\r\n: 5\r\n\r\n", 400, errField},
	{"no colon", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length\r\n\r\n", 400, errField},
	{"a name that is no ASCII", "GET / HTTP/1.1\r\nHost: h\r\nContent-L\xc3\xa9ngth: 5\r\n\r\n", 400, errField},
}

// TestWireFraming: where a request ends can be read in one way only, or it is refused
// before the row sees any of it.
func TestWireFraming(t *testing.T) {
	var wires []wire
	for _, c := range badFraming {
		wires = append(wires, wire{name: c.name, sent: c.sent + second, got: refusedWith(c.code, c.err), ends: true})
	}
	runWires(t, wires)
}

// TestWireTaken: what looks odd and is not goes on in its plain form.
func TestWireTaken(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 5\r\n\r\nhello"
	var wires []wire
	for _, c := range []struct{ name, sent, saw string }{
		{"a request", get, gotten},
		{"empty lines before it", "\r\n\r\n" + get, gotten},
		{"a body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", post},
		{"a length with zeros", "POST / HTTP/1.1\r\nHost: h\r\ncontent-LENGTH:\t005 \r\n\r\nhello", post},
		{"the same length twice", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", post},
		{"a length of 0", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\n{ours}Content-Length: 0\r\n\r\n"},
		{"chunked in any case", "POST / HTTP/1.1\r\nHost: h\r\nTRANSFER-encoding: \tChunked \r\n\r\n0\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\n{ours}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"bytes above ASCII in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: \xe9\t\xff\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX: \xe9\t\xff\r\n{ours}\r\n"},
		{"an empty value", "GET / HTTP/1.1\r\nHost: h\r\nX:\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n{ours}\r\n"},
	} {
		wires = append(wires, wire{name: c.name, sent: c.sent, row: []talk{{saw: c.saw, says: empty}}, got: empty})
	}
	runWires(t, wires)
}

// badChunks are chunked bodies of which the same is true.
var badChunks = []odd{
	{"no size", "\r\nhello\r\n0\r\n\r\n"},
	{"no size of the last chunk", "5\r\nhello\r\n\r\n\r\n"},
	{"an extension without a size", "5\r\nhello\r\n;a\r\n\r\n"},
	{"a size below zero", "-5\r\nhello\r\n0\r\n\r\n"},
	{"a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"},
	{"a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"},
	{"a size that is no number", "zz\r\nhello\r\n0\r\n\r\n"},
	{"a size of 2^64 and 5", "10000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"a size of 2^63", "8000000000000000\r\nhello\r\n0\r\n\r\n"},
	{"a size of too many zeros", "00000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"a space before the size", " 5\r\nhello\r\n0\r\n\r\n"},
	{"a space after the size", "5 \r\nhello\r\n0\r\n\r\n"},
	{"a tab after the size", "5\t\r\nhello\r\n0\r\n\r\n"},
	{"a bare LF after the size", "5\nhello\r\n0\r\n\r\n"},
	{"a bare CR after the size", "5\rhello\r\n0\r\n\r\n"},
	{"another byte for the LF after the size", "5\rXhello\r\n0\r\n\r\n"},
	{"a CR more after the size", "5\r\r\nhello\r\n0\r\n\r\n"},
	{"a control byte in an extension", "5;a=\x01\r\nhello\r\n0\r\n\r\n"},
	{"a NUL in an extension", "5;a\x00\r\nhello\r\n0\r\n\r\n"},
	{"a bare LF in an extension", "5;a\nhello\r\n0\r\n\r\n"},
	{"a bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"},
	{"a quoted extension without end", "5;a=\"b\r\nhello\r\n0\r\n\r\n"},
	{"an extension that is too long", "5;a=" + strings.Repeat("b", maxChunkLine) + "\r\nhello\r\n0\r\n\r\n"},
	{"more than the chunk", "5\r\nhello!\r\n0\r\n\r\n"},
	{"less than the chunk", "6\r\nhello\r\n0\r\n\r\n"},
	{"nothing after the chunk", "5\r\nhello0\r\n\r\n"},
	{"a bare LF after the chunk", "5\r\nhello\n0\r\n\r\n"},
	{"a bare CR after the chunk", "5\r\nhello\r0\r\n\r\n"},
	{"another byte for the CR after the chunk", "5\r\nhelloX\n0\r\n\r\n"},
	{"another byte for the LF after the chunk", "5\r\nhello\rX0\r\n\r\n"},
	{"other bytes after the chunk", "5\r\nhelloXX0\r\n\r\n"},
	{"a bare LF at the end", "5\r\nhello\r\n0\r\n\n"},
	{"a bare LF after the last chunk", "5\r\nhello\r\n0\n\r\n"},
	{"a trailer that is folded", "0\r\nX: a\r\n b\r\n\r\n"},
	{"a trailer with a space before the colon", "0\r\nX : a\r\n\r\n"},
	{"a trailer without a colon", "0\r\nX\r\n\r\n"},
	{"a trailer with a NUL", "0\r\nX: \x00\r\n\r\n"},
	{"a trailer with a bare CR", "0\r\nX: a\rY: b\r\n\r\n"},
	{"a trailer with a bare LF", "0\r\nX: a\nY: b\r\n\r\n"},
}

// goodChunks are chunked bodies, and how they go on.
var goodChunks = []passing{
	{"no chunk", "0\r\n\r\n", "0\r\n\r\n"},
	{"chunks", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"},
	{"sizes in other forms", "0005\r\nhello\r\nB\r\n, the world\r\n000\r\n\r\n", "5\r\nhello\r\nb\r\n, the world\r\n0\r\n\r\n"},
	{"extensions", "5;a;b=c\r\nhello\r\n0;d=\"\\\";\"\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
	{"a body that looks like an end", "7\r\n0\r\n\r\nhi\r\n0\r\n\r\n", "7\r\n0\r\n\r\nhi\r\n0\r\n\r\n"},
	{"trailers", "0\r\nX-Sum: 1\r\n\r\n", "0\r\nX-Sum: 1\r\n\r\n"},
	{"trailers that frame or route", "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: i\r\nConnection: close\r\nTE: trailers\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n" +
		"Authorization: a\r\nCookie: a\r\nExpect: 100-continue\r\nTrailer: X\r\nUpgrade: websocket\r\nX-Request-Id: 1\r\nX-Sum: 1\r\n\r\n", "0\r\nX-Sum: 1\r\n\r\n"},
}

// TestWireChunks: chunked bodies are decoded, and encoded anew for the row.
func TestWireChunks(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	const saw = "POST / HTTP/1.1\r\nHost: h\r\n{ours}Transfer-Encoding: chunked\r\n\r\n"
	var wires []wire
	for _, c := range badChunks {
		wires = append(wires, wire{name: c.name, sent: head + c.sent + second, row: []talk{{saw: saw}}, got: refusedWith(400, errChunk), ends: true, spent: true})
	}
	for _, c := range goodChunks {
		wires = append(wires, wire{name: c.name, sent: head + c.sent, row: []talk{{saw: saw + c.saw, says: empty}}, got: empty})
	}
	runWires(t, wires)
}
