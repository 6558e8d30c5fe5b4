package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// The own path is held against net/http in both directions. What one takes and the
// other refuses, or reads as something else, is on a closed list (known_test.go); a
// difference that is not fails the test that found it.

// verdict is what both made of the same bytes. An error is a refusal.
type verdict struct {
	in           []byte
	own, theirs  error
	ours, others reading // where both took it
}

// reading is what was understood of a request, an answer or a body.
type reading struct {
	method, target, path, host, fields string
	expect                             bool // its body waits for a 100
	code                               int
	length                             int64 // -1: none is told
	chunked                            bool
	body                               string
	rest                               int // bytes behind the body
}

func (v *verdict) agree() bool {
	if v.own != nil || v.theirs != nil {
		return v.own != nil && v.theirs != nil
	}
	return v.ours == v.others
}

// explained fails the test unless both agree, or the list says why they do not.
func (v *verdict) explained(t *testing.T, of kind) {
	t.Helper()
	if v.agree() || v.known(of, differences) {
		return
	}
	t.Fatalf("%s %q\nown path: %+v, %v\nnet/http: %+v, %v\nno known difference explains that", of, v.in, v.ours, v.own, v.others, v.theirs)
}

// known says whether one of the list explains why one refused, or several of it together
// what both made of it.
func (v *verdict) known(of kind, list []difference) bool {
	ours, others := v.ours, v.others
	for i := range list {
		switch d := &list[i]; {
		case !d.about(of):
		case d.fits != nil && d.fits(v):
			return true
		case d.alike != nil:
			d.alike(&ours, &others)
		}
	}
	return v.own == nil && v.theirs == nil && ours == others
}

// catchAll is a proxy that has a service for every path, and is not run.
func catchAll(reference bool) *Proxy {
	p := New(Config{Node: "n1", NetHTTP: reference, Hold: time.Millisecond}, node{&counter{}, "n1"}, &heard{})
	p.SetTable(Table{Index: 1, Services: []Service{{Name: "acts", Routes: []string{"/"}, Mode: "leased", ExposeInternal: true}}})
	return p
}

// errWaits says that the own path waits for more of a head.
var errWaits = errors.New("the head is not whole")

// ownHead reads a request's head as the own path does.
func ownHead(p *Proxy, b []byte) (end int, what reading, err error) {
	if end, _, err = scanHead(b, 0); err == nil && end == 0 {
		err = errWaits
	}
	var r request
	if err == nil {
		err = r.parse(b[:end], false)
	}
	if err != nil {
		return 0, what, err
	}
	var t trip
	if err := t.begin(p, r.method, r.path, time.Now()); err != nil {
		return 0, what, err
	}
	length := max(r.length, 0)
	if r.chunked {
		length = -1
	}
	return end, reading{method: r.method, target: string(r.target), path: r.path, host: string(r.host), length: length, chunked: r.chunked, expect: r.expect && !r.bodiless()}, nil
}

// theirHead reads a request's head as net/http's server and the reference path do.
func theirHead(p *Proxy, b []byte) (what reading, err error) {
	err = errors.New("it never was a request")
	took := false
	l := newMemories()
	s := &http.Server{MaxHeaderBytes: p.cfg.MaxHead, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if took {
			return
		}
		took = true
		x := &exchange{proxy: p}
		if err = x.admit(r); err == nil {
			expect := r.Header.Get("Expect") != "" && r.ContentLength != 0 && r.ProtoMinor == 1
			what = reading{method: r.Method, target: r.URL.RequestURI(), path: x.trip.path, host: r.Host, length: r.ContentLength, chunked: len(r.TransferEncoding) > 0, expect: expect}
		}
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); s.Serve(l) }()
	out, serr := l.serve(net.IPv4(127, 0, 0, 1), b)
	s.Close()
	<-ended
	if serr != nil {
		return what, serr
	}
	if !took {
		line, _, _ := bytes.Cut(out, []byte("\r\n"))
		err = fmt.Errorf("%w: %s", err, line)
	}
	return what, err
}

// requestVerdict holds the readings of a request's head against each other.
func requestVerdict(p *Proxy, b []byte) *verdict {
	end, what, err := ownHead(p, b)
	v := &verdict{in: b, own: err, ours: what}
	if err == nil {
		v.in = b[:end]
	}
	v.others, v.theirs = theirHead(p, v.in)
	return v
}

// answerVerdict holds the readings of an answer's head to a GET against each other.
func answerVerdict(b []byte) *verdict {
	v := &verdict{in: b}
	var end int
	var a answer
	if end, _, v.own = scanHead(b, 0); v.own == nil && end == 0 {
		v.own = errWaits
	}
	if v.own == nil {
		v.in = b[:end]
		v.own = a.parse(v.in)
	}
	if v.own == nil {
		v.ours = reading{code: a.code, length: a.length, chunked: a.chunked}
		if a.bodiless(http.MethodGet) {
			v.ours = reading{code: a.code}
		}
	}
	got, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(v.in)), &http.Request{Method: http.MethodGet})
	if v.theirs = err; err == nil {
		v.others = reading{code: got.StatusCode, length: got.ContentLength, chunked: len(got.TransferEncoding) > 0}
		if got.Body == http.NoBody {
			v.others = reading{code: got.StatusCode}
		}
	}
	return v
}

// chunksVerdict holds the readings of a chunked body and its trailers against each
// other, and where each finds its end.
func chunksVerdict(b []byte) *verdict {
	v := &verdict{in: b}
	body, _, rest, err := decodeAll(b, len(b))
	if v.own = err; err == nil {
		v.ours = reading{body: string(body), rest: rest}
	}
	r := bufio.NewReader(io.MultiReader(bytes.NewReader([]byte("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")), bytes.NewReader(b)))
	req, err := http.ReadRequest(r)
	if err == nil {
		body, err = io.ReadAll(req.Body)
	}
	if v.theirs = err; err == nil {
		behind, err := io.ReadAll(r)
		v.others, v.theirs = reading{body: string(body), rest: len(behind)}, err
	}
	return v
}

var nobody = origin{ip: "192.0.2.1", forwarded: forwardedFor(netip.MustParseAddr("192.0.2.1")), scheme: "http"}

// TestDifferencesAreReal: each of the list shows in its example, and what refuses is
// the side that the list names.
func TestDifferencesAreReal(t *testing.T) {
	p, both := catchAll(false), newPair(t)
	seen := map[string]bool{}
	for _, d := range differences {
		t.Run(d.name, func(t *testing.T) {
			if seen[d.name] {
				t.Error("listed twice")
			}
			seen[d.name] = true
			var v *verdict
			switch d.of {
			case requests:
				v = requestVerdict(p, []byte(d.example))
			case answers:
				v = answerVerdict([]byte(d.example))
			case bodies:
				v = chunksVerdict([]byte(d.example))
			case exchanges:
				vs := both.verdicts(t, []byte(d.example))
				if len(vs) != 1 {
					t.Fatalf("%q shows %d differences", d.example, len(vs))
				}
				v = vs[0]
			}
			if v.agree() || !v.known(d.of, []difference{d}) {
				t.Fatalf("%q is no example of it: %+v", d.example, v)
			}
			if got := v.stricter(); got != d.stricter {
				t.Errorf("%q: refused by %q, the list says %q (%v, %v)", d.example, got, d.stricter, v.own, v.theirs)
			}
		})
	}
}

func (v *verdict) stricter() who {
	switch {
	case v.own != nil:
		return ownPath
	case v.theirs != nil:
		return netHTTP
	}
	return neither
}
