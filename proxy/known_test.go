package proxy

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// kind is what a difference is about.
type kind string

const (
	requests  kind = "request"
	bodies    kind = "chunked body"
	answers   kind = "answer"
	exchanges kind = "exchange"
)

// who is the side that refuses.
type who string

const (
	ownPath who = "own path"
	netHTTP who = "net/http"
	neither who = "neither" // both take it, and make something else of it
)

// difference is one that is known and meant. Its reason stands in
// docs/decisions/own-http.md under its name.
type difference struct {
	of       kind
	name     string
	stricter who
	example  string
	fits     func(*verdict) bool         // one refuses for this
	alike    func(ours, theirs *reading) // makes equal what both took
}

// about says whether the difference may show in what is looked at: a request that net/http
// refuses is refused in a whole connection too.
func (d *difference) about(of kind) bool {
	return d.of == of || of == exchanges && d.of == requests && d.stricter == netHTTP
}

const to = " HTTP/1.1\r\nHost: h\r\n\r\n"

var differences = []difference{
	{requests, "a line that ends with LF alone", ownPath, "GET / HTTP/1.1\nHost: h\n\n", refused(errLine), nil},
	{requests, "a folded field", ownPath, "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", refused(nil, `\n[ \t]`), nil},
	{requests, "both lengths", ownPath, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", refused(errBothLengths), nil},
	{requests, "chunks in HTTP/1.0", ownPath, "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", refused(errCoding, `HTTP/1\.0\r\n`), nil},
	{requests, "a length of more than 18 digits", ownPath, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0000000000000000005\r\n\r\n", refused(errLength, `(?i)\ncontent-length:[ \t]*[0-9]{19,}`), nil},
	{requests, "a version other than 1.0 and 1.1", ownPath, "GET / HTTP/1.2\r\nHost: h\r\n\r\n", refused(errVersion, ` HTTP/1\.[2-9]\r\n`), nil},
	{requests, "bytes that no target has", ownPath, "GET /a#b" + to, refused(errTarget, `^\S+ \S*(#|[^\x00-\x7f])`), nil},
	{requests, "a target of another scheme", ownPath, "GET ftp://h/" + to, refused(errTarget, `^\S+ [A-Za-z][A-Za-z0-9+.-]*:`), nil},
	{requests, "an absolute target with a query and no path", ownPath, "GET http://h?x" + to, refused(errTarget, `^\S+ (?i:http)://[^/ ]*\?`), nil},
	{requests, "an absolute target that disagrees with Host", ownPath, "GET http://other/" + to, refused(errHost, `^\S+ (?i:http)://`), nil},
	{requests, "a Host that is no name, address and port", ownPath, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", refused(errHost, `(?i)\nhost:[^\r]*[^\r]`), nil},
	{requests, "an expectation beside 100-continue", ownPath, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue, x\r\nContent-Length: 3\r\n\r\n", refused(errExpect), nil},
	{requests, "more fields than the limit", ownPath, "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X: y\r\n", maxFields) + "\r\n", refused(errFields), nil},
	{requests, "Connection with more than 64 members", ownPath, "GET / HTTP/1.1\r\nHost: h\r\nConnection: " + strings.Repeat("a,", 65) + "\r\n\r\n", refused(errOptions), nil},
	{requests, "a target above the limit", ownPath, "GET /" + strings.Repeat("x", maxTarget) + to, refused(errTargetSize), nil},
	{requests, "bytes of a target that URLs escape", neither, "GET /{" + to, nil, escaped},
	{requests, "an absolute target with Host in another case", neither, "GET http://H/" + to, nil, func(ours, theirs *reading) {
		theirs.host = strings.ToLower(theirs.host)
		ours.host = strings.ToLower(ours.host)
	}},

	{requests, "an escape in an absolute target's host", netHTTP, "GET http://%68/ HTTP/1.1\r\nHost: %68\r\n\r\n", theyRefused(`(?m)^\S+ (?i:http)://[^/ ]*%`), nil},
	{requests, "one length written in two ways", netHTTP, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n", theyRefused(`(?is)\ncontent-length:.*\ncontent-length:`, `(?i)\ncontent-length:[ \t]*0[0-9]`), nil},

	{bodies, "a space behind a chunk's size", ownPath, "5 \r\nhello\r\n0\r\n\r\n", refused(errChunk, `[0-9A-Fa-f][ \t]+[\r;]`), nil},
	{bodies, "control bytes in a chunk's extension", ownPath, "5;\x01\r\nhello\r\n0\r\n\r\n", refused(errChunk, `;[^\n]*[\x00-\x08\x0b-\x1f\x7f]`), nil},
	{bodies, "a quoted extension without end", ownPath, "5;a=\"b\r\nhello\r\n0\r\n\r\n", refused(errChunk, `;[^\n]*"`), nil},
	{bodies, "an extension above the limit", ownPath, "5;" + strings.Repeat("x", maxChunkLine) + "\r\nhello\r\n0\r\n\r\n", refused(errChunk, `;[^\n]{200}`), nil},
	{bodies, "a trailer line that ends with LF alone", ownPath, "0\r\nX: y\n\r\n\r\n", refused(errChunk, `[^\r]\n`), nil},
	{bodies, "a space in a trailer's name", ownPath, "0\r\nX : y\r\n\r\n", refused(errChunk, `\n[^\n: ]+ [^\n:]*:`), nil},
	{bodies, "a folded trailer", ownPath, "0\r\nX: y\r\n z\r\n\r\n", refused(errChunk, `\n[ \t]`), nil},

	{answers, "an answer's line that ends with LF alone", ownPath, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", refused(errLine), nil},
	{answers, "a folded field of an answer", ownPath, "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", refused(errBadAnswer, `\n[ \t]`), nil},
	{answers, "a space in a field's name", ownPath, "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", refused(errBadAnswer, `\n[^\n: ]+ [^\n:]*:`), nil},
	{answers, "both lengths of an answer", ownPath, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", refused(errBadAnswer, `(?i)\ncontent-length:`, `(?i)\ntransfer-encoding:`), nil},
	{answers, "an answer in chunks of HTTP/1.0", ownPath, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", refused(errBadAnswer, `^HTTP/1\.0`, `(?i)\ntransfer-encoding:`), nil},
	{answers, "a body where none may be", ownPath, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", refused(errBadAnswer, `^HTTP/1\.[01] (1..|204)`, `(?i)\n(content-length|transfer-encoding):`), nil},
	{answers, "an answer of another version", ownPath, "HTTP/1.7 200 OK\r\n\r\n", refused(errBadAnswer, `^HTTP/([^1]\.|1\.[^01])`), nil},
	{answers, "a status that is no number from 100", ownPath, "HTTP/1.1 099 X\r\n\r\n", refused(errBadAnswer, `^HTTP/1\.[01] *[0+-]`), nil},
	{answers, "spaces before the status", ownPath, "HTTP/1.1  200 OK\r\n\r\n", refused(errBadAnswer, `^HTTP/1\.[01]  `), nil},
	{answers, "control bytes in the reason", ownPath, "HTTP/1.1 200 O\x00K\r\n\r\n", refused(errBadAnswer, `^HTTP/1\.[01] [0-9]+ [^\n]*[\x00-\x08\x0b-\x1f\x7f][^\n]`), nil},
	{answers, "an answer's length of more than 18 digits", ownPath, "HTTP/1.1 200 OK\r\nContent-Length: 0000000000000000005\r\n\r\n", refused(errBadAnswer, `(?i)\ncontent-length:[ \t]*[0-9]{19,}`), nil},
	{answers, "an answer whose Connection names what it needs", ownPath, "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\n", refused(errBadAnswer, `(?i)\nconnection:`), nil},
	{answers, "an answer's Connection with more than 64 members", ownPath, "HTTP/1.1 200 OK\r\nConnection: " + strings.Repeat("a,", 65) + "\r\nContent-Length: 0\r\n\r\n", refused(errBadAnswer, `(?i)\nconnection:[^\n]*(,[^\n]*){64}`), nil},
	{answers, "an answer's length written in two ways", netHTTP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n", theyRefused(`(?is)\ncontent-length:.*\ncontent-length:`, `(?i)\ncontent-length:[ \t]*0[0-9]`), nil},
	{exchanges, "a request without Host", neither, "GET / HTTP/1.0\r\n\r\n", nil, func(ours, theirs *reading) {
		if ours.host == "" {
			theirs.host = ""
		}
	}},
	{exchanges, "a target that goes on escaped", neither, "GET /{ HTTP/1.1\r\nHost: h\r\n\r\n", nil, escaped},
	{exchanges, "Host from an absolute target", neither, "GET http://H/ HTTP/1.1\r\nHost: h\r\n\r\n", nil, func(ours, theirs *reading) {
		for _, r := range []*reading{ours, theirs} {
			r.host, r.fields = strings.ToLower(r.host), strings.ToLower(r.fields)
		}
	}},
	{exchanges, "empty lines before a request", netHTTP, "GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", theyRefused(`^\r\n|\r\n\r\n\r\n|[^\n]\r\n[!-~]+ \S+ HTTP/1\.[01]\r\n`), nil},
	{answers, "an answer with more fields than the limit", ownPath, "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", maxFields+1) + "\r\n", refused(errBadAnswer, `(?:\n[^\n]*){129}`), nil},
}

// refused says that the own path refused with err, or with any where it is nil, what net/http took, and that the
// bytes show every pattern.
func refused(err error, patterns ...string) func(*verdict) bool {
	shown := shows(patterns)
	return func(v *verdict) bool {
		return v.own != nil && (err == nil || errors.Is(v.own, err)) && v.theirs == nil && shown(v.in)
	}
}

// theyRefused says that net/http refused what the own path took.
func theyRefused(patterns ...string) func(*verdict) bool {
	shown := shows(patterns)
	return func(v *verdict) bool { return v.own == nil && v.theirs != nil && shown(v.in) }
}

func shows(patterns []string) func([]byte) bool {
	var all []*regexp.Regexp
	for _, p := range patterns {
		all = append(all, regexp.MustCompile(p))
	}
	return func(b []byte) bool {
		return !slices.ContainsFunc(all, func(p *regexp.Regexp) bool { return !p.Match(b) })
	}
}

// escaped is what net/url makes of a target that it sends on.
func escaped(ours, theirs *reading) {
	if url, err := url.ParseRequestURI(ours.target); err == nil {
		ours.target = url.RequestURI()
	}
}

// TestDifferencesAreWrittenDown: the page has a reason for each of the list, and none
// for what is not on it.
func TestDifferencesAreWrittenDown(t *testing.T) {
	page, err := os.ReadFile("../docs/decisions/own-http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := bytes.Cut(page, []byte("\n## Where the two differ\n"))
	if !found {
		t.Fatal("the page has no list")
	}
	section, _, _ = bytes.Cut(section, []byte("\n## "))
	written := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^- \*([^*]+)\* \(([^;]+; [^)]+)\): \S.{8,}`).FindAllSubmatch(section, -1) {
		written[string(m[1])] = string(m[2])
	}
	if n := bytes.Count(section, []byte("\n- ")); n != len(written) {
		t.Errorf("%d of %d entries have a name, a kind, a side and a reason", len(written), n)
	}
	for _, d := range differences {
		side := string(d.stricter) + " refuses"
		if d.stricter == neither {
			side = "neither refuses"
		}
		if want := string(d.of) + "; " + side; written[d.name] != want {
			t.Errorf("%q is written down as %q, want %q", d.name, written[d.name], want)
		}
		delete(written, d.name)
	}
	for name := range written {
		t.Errorf("%q is written down and not on the list", name)
	}
}
