package proxy

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
)

// What is sent is written anew from what was parsed.

const via = "1.1 orchd"

// origin is what a client's connection says of all its requests.
type origin struct {
	ip        string
	forwarded string // for=…
	scheme    string
	trusted   bool
}

func (p *Proxy) origin(peer netip.Addr, secure bool) origin {
	o := origin{ip: peer.String(), forwarded: forwardedFor(peer), scheme: "http", trusted: p.cfg.trusts(peer)}
	if secure {
		o.scheme = "https"
	}
	return o
}

// forwardedFor is a node of RFC 7239: an IPv6 address is quoted.
func forwardedFor(peer netip.Addr) string {
	switch {
	case !peer.IsValid():
		return "for=unknown"
	case peer.Is4():
		return "for=" + peer.String()
	}
	return `for="[` + peer.String() + `]"`
}

// appendForwarded appends the host and the scheme of a request (RFC 7239).
func appendForwarded[T []byte | string](b []byte, host T, scheme string) []byte {
	if len(host) > 0 {
		b = append(b, `;host="`...)
		b = append(b, host...)
		b = append(b, '"')
	}
	b = append(b, ";proto="...)
	return append(b, scheme...)
}

// idSize is the length of a request ID that is made: 64 random bits are enough to find a request.
const idSize = 16

// appendID appends a new request ID.
func appendID(b []byte) []byte {
	n := rand.Uint64()
	for range idSize {
		b = append(b, "0123456789abcdef"[n&15])
		n >>= 4
	}
	return b
}

func appendField(b []byte, name string, value []byte) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

func (f *field) append(b []byte) []byte {
	b = append(b, f.name...)
	b = append(b, ": "...)
	b = append(b, f.value...)
	return append(b, "\r\n"...)
}

// append appends the request's head as it goes to a row.
func (r *request) append(b []byte, o *origin) []byte {
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, r.target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.host...)
	b = append(b, "\r\n"...)
	for i := range r.fields {
		f := &r.fields[i]
		switch {
		case f.drop:
		case f.id == other,
			(f.id == fieldForwarded || f.id == fieldClaim) && o.trusted,
			f.id == fieldTrailer && r.chunked,
			f.id == fieldExpect && !r.bodiless() && r.minor == 1:
			b = f.append(b)
		}
	}
	b = r.appendForwarded(b, o)
	b = append(b, "Via: "+via+"\r\nX-Request-Id: "...)
	if r.id == nil {
		r.id = appendID(r.made[:0])
	}
	b = append(b, r.id...)
	b = append(b, "\r\n"...)
	switch {
	case r.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.length >= 0:
		b = appendLength(b, r.length)
	}
	if r.upgrades() {
		b = append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	} else if r.trailers {
		b = append(b, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return append(b, "\r\n"...)
}

// appendForwarded appends for whom the node asks. What a peer says of that is passed on
// only when it is trusted.
func (r *request) appendForwarded(b []byte, o *origin) []byte {
	proto, host := false, false
	b = append(b, "X-Forwarded-For: "...)
	if o.trusted {
		for i := range r.fields {
			if f := &r.fields[i]; f.id == fieldForwardedFor && !f.drop && len(f.value) > 0 {
				b = append(b, f.value...)
				b = append(b, ", "...)
			}
		}
	}
	b = append(b, o.ip...)
	b = append(b, "\r\n"...)
	if o.trusted {
		for i := range r.fields {
			switch f := &r.fields[i]; {
			case f.id == fieldForwardedProto && !proto:
				proto, b = true, f.append(b)
			case f.id == fieldForwardedHost && !host:
				host, b = true, f.append(b)
			}
		}
	}
	if !proto {
		b = append(b, "X-Forwarded-Proto: "...)
		b = append(b, o.scheme...)
		b = append(b, "\r\n"...)
	}
	if !host && len(r.host) > 0 {
		b = appendField(b, "X-Forwarded-Host", r.host)
	}
	b = append(b, "Forwarded: "...)
	b = append(b, o.forwarded...)
	b = appendForwarded(b, r.host, o.scheme)
	return append(b, "\r\n"...)
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

// append appends the answer's head as it goes to the client that sent r. end says that
// the client's connection ends with it.
func (a *answer) append(b []byte, r *request, t *trip, end bool) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(a.code), 10)
	b = append(b, ' ')
	b = append(b, a.reason...)
	b = append(b, "\r\n"...)
	for i := range a.fields {
		f := &a.fields[i]
		switch {
		case f.drop:
		case f.id == other, f.id >= fieldExpect && f.id <= fieldRequestID, f.id == fieldTrailer && a.chunked && r.trailers && r.minor == 1:
			b = f.append(b)
		}
	}
	if a.code == 101 {
		return append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"...)
	}
	if a.code < 200 {
		return append(b, "\r\n"...)
	}
	if t.service.DebugHeaders {
		b = t.appendMarks(b)
	}
	switch {
	case a.code == 204:
	case a.length >= 0:
		b = appendLength(b, a.length)
	case a.bodiless(r.method):
	case r.minor == 1:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case end:
		b = append(b, "Connection: close\r\n"...)
	case r.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...)
}

// appendMarks appends the headers that show where a request went.
func (t *trip) appendMarks(b []byte) []byte {
	b = append(b, "X-Orch-Node: "...)
	b = append(b, t.proxy.cfg.Node...)
	b = append(b, "\r\nX-Orch-Container: "...)
	b = append(b, t.service.Name...)
	b = append(b, '/')
	b = strconv.AppendInt(b, int64(t.row.Number), 10)
	b = append(b, "\r\nX-Orch-Turn: "...)
	b = strconv.AppendUint(b, t.turn, 10)
	b = append(b, ' ')
	b = append(b, t.source...)
	return append(b, "\r\n"...)
}

// append appends a refusal with its head, in answer to q; nil is a request that was not
// understood, after which the connection ends in any case.
func (r *refusal) append(b []byte, q *request, end bool) []byte {
	body := r.body()
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(b, ' ')
	b = append(b, r.reason()...)
	b = append(b, "\r\nContent-Type: application/json\r\n"...)
	b = appendLength(b, int64(len(body)))
	if r.retryAfter() {
		b = append(b, "Retry-After: 1\r\n"...)
	}
	switch {
	case end:
		b = append(b, "Connection: close\r\n"...)
	case q.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	b = append(b, "\r\n"...)
	if q != nil && q.method == "HEAD" {
		return b // what followed would be taken for the next answer
	}
	return append(b, body...)
}
