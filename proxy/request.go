package proxy

import (
	"bytes"
	"unsafe"
)

// request is a parsed head of a request; its bytes stay in the client's buffer.
type request struct {
	head
	method string
	target []byte // origin-form, as it came
	path   string // decoded
	host   []byte
	expect bool
	id     []byte // X-Request-Id: the client's, where it is kept, or made from the first try on
	made   [idSize]byte
}

// text is b as a string for as long as b is not written.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// parse reads a whole head. secure says whether it came over TLS.
func (r *request) parse(b []byte, secure bool) error {
	r.reset()
	*r = request{head: r.head}
	end := bytes.IndexByte(b, '\n')
	line, rest := b[:end-1], b[end+1:]
	if err := r.parseStart(line); err != nil {
		return err
	}
	if err := r.parseFields(rest); err != nil {
		return err
	}
	if err := r.settle(); err != nil {
		return err
	}
	return r.check(secure)
}

// parseStart reads METHOD SP target SP HTTP/1.x.
func (r *request) parseStart(line []byte) error {
	i := bytes.IndexByte(line, ' ')
	j := bytes.LastIndexByte(line, ' ')
	if i < 1 || j == i || !all(line[:i], isToken) {
		return errStart
	}
	version, target := line[j+1:], line[i+1:j]
	if len(version) != 8 || text(version[:5]) != "HTTP/" || version[6] != '.' {
		return errStart
	}
	if text(version) != "HTTP/1.1" && text(version) != "HTTP/1.0" {
		return errVersion
	}
	r.minor = version[7] - '0'
	if len(target) > r.bounds.target {
		return errTargetSize
	}
	if len(target) == 0 || !all(target, isTarget) {
		return errTarget
	}
	r.method, r.target = text(line[:i]), target
	if r.method == "CONNECT" {
		return errConnect
	}
	return nil
}

// check is what the target and the fields must be together.
func (r *request) check(secure bool) error {
	hosts := 0
	for i := range r.fields {
		switch f := &r.fields[i]; f.id {
		case fieldHost:
			hosts++
			r.host = f.value
			if f.drop {
				return errConnection
			}
		case fieldExpect:
			if !fold(f.value, "100-continue") {
				return errExpect
			}
			r.expect = r.minor == 1
		case fieldRequestID:
			if plainID(f.value) {
				r.id = f.value
			}
		}
	}
	if hosts > 1 || len(r.host) == 0 && r.minor == 1 || !validHost(r.host) {
		return errHost
	}
	if r.target[0] != '/' {
		if err := r.absolute(secure); err != nil {
			return err
		}
	}
	path := r.target
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		path = path[:i]
	}
	if bytes.IndexByte(path, '%') < 0 {
		r.path = text(path)
		return nil
	}
	if !escapesValid(path) {
		return errTarget
	}
	r.path = decode(text(path))
	return nil
}

// absolute turns a target with scheme and host into one without; they must agree with
// the connection and with Host. An asterisk is left to OPTIONS.
func (r *request) absolute(secure bool) error {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	t := r.target
	if r.method == "OPTIONS" && len(t) == 1 && t[0] == '*' {
		return nil
	}
	if len(t) < len(scheme) || !fold(t[:len(scheme)], scheme) {
		return errTarget
	}
	t = t[len(scheme):]
	i := bytes.IndexAny(t, "/?")
	host := t
	if i >= 0 {
		host = t[:i]
	}
	if len(host) == 0 || !bytes.EqualFold(host, r.host) {
		return errHost
	}
	switch {
	case i < 0:
		r.target = []byte("/")
	case t[i] == '?':
		return errTarget // needs a byte more than it has; nobody sends it
	default:
		r.target = t[i:]
	}
	return nil
}

// validHost says whether b may stand in Host: a name or an address, and a port.
func validHost(b []byte) bool {
	if len(b) > 0 && b[0] == '[' {
		i := bytes.IndexByte(b, ']')
		if i < 2 || !all(b[:i], isHost) {
			return false
		}
		return validPort(b[i+1:])
	}
	if i := bytes.IndexByte(b, ':'); i >= 0 {
		return i > 0 && validPort(b[i:]) && validHost(b[:i])
	}
	return all(b, isHost) && !bytes.ContainsAny(b, "[]") && escapesValid(b)
}

func validPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return b[0] == ':' && len(b) <= 6
}

// plainID says whether a request ID is kept: others might be written to a log.
func plainID[T []byte | string](b T) bool {
	if len(b) == 0 || len(b) > 128 {
		return false
	}
	for i := range len(b) {
		if classes[b[i]]&isID == 0 {
			return false
		}
	}
	return true
}

// keepAlive says whether the client's connection goes on after the answer.
func (r *request) keepAlive() bool {
	if r.minor == 0 {
		return r.keep && !r.close
	}
	return !r.close
}

// bodiless says that no body follows the head.
func (r *request) bodiless() bool { return !r.chunked && r.length <= 0 }

// upgrades says whether the request asks for a WebSocket.
func (r *request) upgrades() bool {
	return r.websock && r.upgrade && r.minor == 1 && r.method == "GET" && r.bodiless()
}
