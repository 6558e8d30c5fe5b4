package acts

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// people says whether a user exists: here, or where another service has them.
type people interface {
	// known returns nil, or a refusal. origin is the public address of this service.
	known(ctx context.Context, name, origin string) error
	elsewhere() bool
}

// here: the database asks in the transaction that adds the act.
type here struct{}

func (here) known(context.Context, string, string) error { return nil }
func (here) elsewhere() bool                             { return false }

// remote asks a users service.
type remote struct {
	url  string // of its list
	http *http.Client
}

const (
	// askTimeout bounds one question, to the end of its answer: a list of any length
	// is read in it, or not.
	askTimeout = 3 * time.Second
	// askBuffer is what is held of a list, in bytes.
	askBuffer = 32 << 10
	// askRest is how much of a list is read for the sake of its connection after the
	// name was found, in bytes.
	askRest = 256 << 10
)

func newRemote(base string) *remote {
	return &remote{
		url:  strings.TrimSuffix(base, "/") + "/api/v1/users",
		http: &http.Client{Timeout: askTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second}},
	}
}

// originOf a request is the address that its client knows this service by.
func originOf(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	if h := r.Header.Get("X-Forwarded-Host"); h != "" { // of a proxy that does not pass Host on
		host = h
	}
	u := url.URL{Scheme: scheme, Host: host}
	if parsed, err := url.Parse(u.String()); err != nil || parsed.Host != host || host == "" {
		return "null" // RFC 6454: an origin that can not be told
	}
	return u.String()
}

func (*remote) elsewhere() bool { return true }

func (p *remote) known(ctx context.Context, name, origin string) error {
	ok, err := p.ask(ctx, name, origin)
	if err != nil {
		return refuse(http.StatusServiceUnavailable, "the users service does not answer; try again (%v)", plain(err))
	}
	if !ok {
		return wrong("username: there is no %.80q; give a user that exists", name)
	}
	return nil
}

// plain leaves the address out: it is inside.
func plain(err error) error {
	var x *url.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &x) && x.Timeout():
		return fmt.Errorf("no answer within %s", askTimeout)
	case errors.Is(err, errNoList):
		return err
	}
	return errors.New("it can not be reached")
}

// errNoList: what answers is no users service.
var errNoList = errors.New("what it answers is no list of names")

func (p *remote) ask(ctx context.Context, name, origin string) (known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Origin", origin)
	resp, err := p.http.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return false, nil
	case http.StatusOK:
		known, err = listed(bufio.NewReaderSize(resp.Body, askBuffer), name)
		io.CopyN(io.Discard, resp.Body, askRest) // where there is more, the connection goes
		return known, err
	}
	return false, fmt.Errorf("%w: status %d", errNoList, resp.StatusCode)
}

// listed looks for a name in an array of texts, a byte at a time: however long the list
// or one of its names is, it holds a buffer.
func listed(r *bufio.Reader, name string) (bool, error) {
	c, err := solid(r)
	if err == nil && c != '[' {
		err = errNoList
	}
	for first := true; err == nil; first = false {
		if c, err = solid(r); err != nil || c == ']' && first {
			return false, err
		}
		if c != '"' {
			return false, errNoList
		}
		if same, err := matches(r, name); err != nil || same {
			return same, err
		}
		if c, err = solid(r); err == nil && c == ']' {
			return false, nil
		}
		if err == nil && c != ',' {
			err = errNoList
		}
	}
	return false, err
}

// solid is the next byte that is no space.
func solid(r *bufio.Reader) (byte, error) {
	for {
		c, err := r.ReadByte()
		if err != nil || c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c, early(err)
		}
	}
}

// early: an answer that ends is none yet.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends too early", errNoList)
	}
	return err
}

// matches reads the rest of a JSON string, and says whether it is name.
func matches(r *bufio.Reader, name string) (bool, error) {
	rest, same := []byte(name), true
	take := func(part []byte) {
		if same {
			rest, same = bytes.CutPrefix(rest, part)
		}
	}
	for {
		if _, err := r.Peek(1); err != nil {
			return false, early(err)
		}
		b, _ := r.Peek(r.Buffered())
		n := bytes.IndexByte(b, '"')
		if n < 0 {
			n = len(b)
		}
		if i := bytes.IndexByte(b[:n], '\\'); i >= 0 {
			n = i
		}
		take(b[:n])
		ends, escapes := n < len(b) && b[n] == '"', n < len(b) && b[n] == '\\'
		r.Discard(min(n+1, len(b)))
		switch {
		case ends:
			return same && len(rest) == 0, nil
		case escapes:
			x, err := escaped(r)
			if err != nil {
				return false, early(err)
			}
			take(utf8.AppendRune(nil, x))
		}
	}
}

// escaped reads what follows a backslash (RFC 8259, section 7).
func escaped(r *bufio.Reader) (rune, error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	if c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return 0, errNoList
		}
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	first, err := unit(r)
	if err != nil || !utf16.IsSurrogate(first) {
		return first, err
	}
	if next, err := r.Peek(2); err != nil || string(next) != `\u` {
		return utf8.RuneError, nil // half a pair, as decoders read it
	}
	r.Discard(2)
	second, err := unit(r)
	return utf16.DecodeRune(first, second), err
}

func unit(r *bufio.Reader) (rune, error) {
	var digits [4]byte
	if _, err := io.ReadFull(r, digits[:]); err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(digits[:]), 16, 16)
	if err != nil {
		return 0, errNoList
	}
	return rune(n), nil
}
