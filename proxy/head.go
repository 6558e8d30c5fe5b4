package proxy

import "bytes"

// name is a field name that the proxy knows.
type name uint8

const (
	other name = iota
	fieldHost
	fieldConnection
	fieldLength
	fieldCoding
	fieldTE
	fieldTrailer
	fieldUpgrade
	fieldExpect
	fieldForwarded
	fieldForwardedFor
	fieldForwardedProto
	fieldForwardedHost
	fieldClaim // who asks, or what for, in the words of some proxy
	fieldAlias // another field to CGI programs, or one they should not have
	fieldRequestID
	fieldHop  // ends here, whatever it says
	fieldOurs // only this node sets it
)

// known is the name that b is. One with underscores is the name with dashes to whoever
// makes environment variables of fields: what is not to be said with those may not be
// said with these either.
func known(b []byte) name {
	if n := named(b); n != other {
		return n
	}
	if claims(b) {
		return fieldClaim
	}
	if i := bytes.IndexByte(b, '_'); i >= 0 && len(b) <= longestKnown {
		var dashed [longestKnown]byte
		copy(dashed[:], b)
		for ; i < len(b); i++ {
			if b[i] == '_' {
				dashed[i] = '-'
			}
		}
		if named(dashed[:len(b)]) != other || claims(dashed[:len(b)]) {
			return fieldAlias
		}
	}
	return other
}

const longestKnown = 32 // bytes of a name, with room

// claims says whether b is a field in which proxies say for whom they ask, or what was
// asked for before they changed it. X-Forwarded- has no end of them.
func claims(b []byte) bool {
	if len(b) < 9 {
		return false
	}
	switch b[0] | 0x20 {
	case 'x':
		for _, s := range [...]string{"x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-url", "x-rewrite-url"} {
			if fold(b, s) {
				return true
			}
		}
		return len(b) > 12 && fold(b[:12], "x-forwarded-")
	case 't':
		return fold(b, "true-client-ip")
	case 'c':
		return fold(b, "cf-connecting-ip")
	case 'f':
		return fold(b, "fastly-client-ip")
	}
	return false
}

// named is a switch on the length first: most names are told by it alone.
func named(b []byte) name {
	is := func(s string, n name) name {
		if fold(b, s) {
			return n
		}
		return other
	}
	switch len(b) {
	case 2:
		return is("te", fieldTE)
	case 4:
		return is("host", fieldHost)
	case 5:
		return is("proxy", fieldAlias) // becomes HTTP_PROXY, which CGI programs obey
	case 6:
		return is("expect", fieldExpect)
	case 7:
		return max(is("upgrade", fieldUpgrade), is("trailer", fieldTrailer))
	case 9:
		return is("forwarded", fieldForwarded)
	case 10:
		return max(is("connection", fieldConnection), is("keep-alive", fieldHop))
	case 11:
		return max(is("x-orch-node", fieldOurs), is("x-orch-turn", fieldOurs))
	case 12:
		return is("x-request-id", fieldRequestID)
	case 14:
		return max(is("content-length", fieldLength), is("http2-settings", fieldHop))
	case 15:
		return is("x-forwarded-for", fieldForwardedFor)
	case 16:
		switch b[0] | 0x20 {
		case 'x':
			return max(is("x-forwarded-host", fieldForwardedHost), is("x-orch-container", fieldOurs))
		case 'p':
			return is("proxy-connection", fieldHop)
		}
	case 17:
		switch b[0] | 0x20 {
		case 't':
			return is("transfer-encoding", fieldCoding)
		case 'x':
			return is("x-forwarded-proto", fieldForwardedProto)
		}
	case 18:
		return is("proxy-authenticate", fieldHop)
	case 19:
		return is("proxy-authorization", fieldHop)
	}
	return other
}

// essential says whether a message would mean something else without the named field:
// Connection may not name it.
func essential[T []byte | string](b T) bool {
	for _, s := range [...]string{"host", "content-length", "transfer-encoding", "authorization", "cookie", "forwarded", "x-real-ip"} {
		if fold(b, s) {
			return true
		}
	}
	return len(b) > 12 && fold(b[:12], "x-forwarded-")
}

// field is one line of a head; its bytes stay in the buffer they came in.
type field struct {
	name, value []byte
	id          name
	drop        bool // Connection names it
}

// head is what requests and answers have in common.
type head struct {
	fields   []field
	minor    byte  // of HTTP/1.x
	length   int64 // of the body; -1: none is given
	chunked  bool
	close    bool // Connection: close
	keep     bool // Connection: keep-alive
	upgrade  bool // Connection: upgrade
	trailers bool // TE: trailers
	websock  bool // Upgrade: websocket
	coded    int  // Transfer-Encoding fields
	bounds   *bounds
}

func (h *head) reset() {
	*h = head{fields: h.fields[:0], length: -1, bounds: h.bounds}
	if h.bounds == nil {
		h.bounds = &usual
	}
}

// scanHead looks for the end of a head in b; what is before from has been looked at.
// It returns the length of the head, 0 where it is not whole yet, and where to look
// next. A line that does not end with CR LF is an error at once.
func scanHead(b []byte, from int) (end, next int, err error) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0, from, nil
		}
		i += from
		if i == 0 || b[i-1] != '\r' {
			return 0, 0, errLine
		}
		if i >= 3 && b[i-2] == '\n' || i == 1 {
			return i + 1, 0, nil
		}
		from = i + 1
	}
}

// parseFields reads the lines of b, which ends with the empty one.
func (h *head) parseFields(b []byte) error {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 1 || b[end-1] != '\r' {
			return errField
		}
		line := b[:end-1]
		b = b[end+1:]
		if len(line) == 0 {
			return nil
		}
		if len(h.fields) >= h.bounds.fields {
			return errFields
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 || !all(line[:colon], isToken) {
			return errField // obs-fold and a space before the colon too
		}
		value := trim(line[colon+1:])
		if !validValue(value) {
			return errField
		}
		f := field{name: line[:colon], value: value, id: known(line[:colon])}
		h.fields = append(h.fields, f)
		if f.id != other {
			if err := h.note(f); err != nil {
				return err
			}
		}
	}
}

// note takes in what a field says about the message itself.
func (h *head) note(f field) error {
	switch f.id {
	case fieldLength:
		n, ok := decimal(f.value)
		if !ok || h.length >= 0 && h.length != n {
			return errLength
		}
		h.length = n
	case fieldCoding:
		h.coded++
		h.chunked = fold(f.value, "chunked")
		if !h.chunked || h.coded > 1 {
			return errCoding
		}
	case fieldConnection:
		return h.options(f.value)
	case fieldTE:
		h.trailers = h.trailers || hasToken(f.value, "trailers")
	case fieldUpgrade:
		h.websock = fold(f.value, "websocket")
	}
	return nil
}

// options takes in what Connection says.
func (h *head) options(value []byte) error {
	for len(value) > 0 {
		var t []byte
		t, value = cutToken(value)
		switch {
		case fold(t, "close"):
			h.close = true
		case fold(t, "keep-alive"):
			h.keep = true
		case fold(t, "upgrade"):
			h.upgrade = true
		case essential(t):
			return errConnection
		}
	}
	return nil
}

// maxOptions bounds what Connection lists: each is looked for among all fields. Nobody
// lists more than three or four.
const maxOptions = 64

// settle checks what only the whole head can tell, and marks the fields that
// Connection names.
func (h *head) settle() error {
	if h.chunked && h.length >= 0 {
		return errBothLengths
	}
	if h.chunked && h.minor == 0 {
		return errCoding
	}
	options := 0
	for i := range h.fields {
		if h.chunked && h.fields[i].id == fieldTrailer && announcesFraming(h.fields[i].value) {
			return errField
		}
		if h.fields[i].id != fieldConnection {
			continue
		}
		for value := h.fields[i].value; len(value) > 0; {
			var t []byte
			t, value = cutToken(value)
			if options++; options > maxOptions {
				return errOptions
			}
			if len(t) == 0 || fold(t, "close") || fold(t, "keep-alive") || fold(t, "upgrade") {
				continue
			}
			for j := range h.fields {
				if f := &h.fields[j]; len(f.name) == len(t) && bytes.EqualFold(f.name, t) {
					f.drop = true
				}
			}
		}
	}
	return nil
}

// announcesFraming says whether Trailer names a field that would say after the body where
// it ends.
func announcesFraming(value []byte) bool {
	for len(value) > 0 {
		var t []byte
		t, value = cutToken(value)
		if id := known(t); id == fieldLength || id == fieldCoding || id == fieldTrailer {
			return true
		}
	}
	return false
}

func cutToken(value []byte) (token, rest []byte) {
	if i := bytes.IndexByte(value, ','); i >= 0 {
		return trim(value[:i]), value[i+1:]
	}
	return trim(value), nil
}

// hasToken says whether a list has a member, whatever its parameters.
func hasToken(value []byte, want string) bool {
	for len(value) > 0 {
		var t []byte
		t, value = cutToken(value)
		if i := bytes.IndexByte(t, ';'); i >= 0 {
			t = trim(t[:i])
		}
		if fold(t, want) {
			return true
		}
	}
	return false
}
