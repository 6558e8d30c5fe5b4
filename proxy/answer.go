package proxy

import "bytes"

// answer is a parsed head of an answer; its bytes stay in the row's buffer.
type answer struct {
	head
	code   int
	reason []byte
}

// parse reads a whole head. Whatever is wrong with it, the answer is not used.
func (a *answer) parse(b []byte) error {
	a.reset()
	*a = answer{head: a.head}
	end := bytes.IndexByte(b, '\n')
	line, rest := b[:end-1], b[end+1:]
	if len(line) < 12 || text(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' || len(line) > 12 && line[12] != ' ' {
		return errBadAnswer
	}
	a.minor = line[7] - '0'
	code, ok := decimal(line[9:12])
	if !ok || code < 100 || !validValue(line) {
		return errBadAnswer
	}
	a.code = int(code)
	if len(line) > 13 {
		a.reason = line[13:]
	}
	if a.parseFields(rest) != nil || a.settle() != nil {
		return errBadAnswer
	}
	if (a.code < 200 || a.code == 204) && (a.chunked || a.length > 0) {
		return errBadAnswer // RFC 9110, 8.6 and RFC 9112, 6.1
	}
	return nil
}

// bodiless says whether the answer to a method has no body (RFC 9112, 6.3).
func (a *answer) bodiless(method string) bool {
	return method == "HEAD" || a.code < 200 || a.code == 204 || a.code == 304 || a.length == 0
}

// reusable says whether the row's connection may have another request after this.
func (a *answer) reusable() bool {
	if a.minor == 0 {
		return a.keep && !a.close
	}
	return !a.close
}
