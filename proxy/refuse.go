package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// refusal is an answer that the proxy gives itself.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

var (
	errNoRow      = &refusal{http.StatusServiceUnavailable, "no container is in rotation; try again in a moment"}
	errNoService  = &refusal{http.StatusNotFound, "no service has a route for this path"}
	errInternal   = &refusal{http.StatusForbidden, "this path is internal to the service and closed on the public port"}
	errBody       = &refusal{http.StatusBadRequest, "the body does not end as its framing says"}
	errTooLarge   = &refusal{http.StatusRequestEntityTooLarge, "the body is larger than this service accepts"}
	errConnection = &refusal{http.StatusBadRequest, "the Connection header names a header that may not be dropped"}
	errUnreached  = &refusal{http.StatusBadGateway, "no container could be reached"}
	errSlow       = &refusal{http.StatusGatewayTimeout, "the container took too long to answer"}
)

// clientFault is a refusal for a body that could not be read to its end.
func clientFault(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return errTooLarge
	}
	return errBody
}

// status is the one place where an error becomes an answer; what is not meant for
// clients stays here.
func status(err error) *refusal {
	var r *refusal
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return errSlow
	}
	return errUnreached
}

// refuse answers err as plain JSON.
func refuse(w http.ResponseWriter, err error) int {
	r := status(err)
	body, _ := json.Marshal(map[string]any{"error": map[string]any{"code": r.status, "message": r.message}})
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if r == errNoRow {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(r.status)
	w.Write(append(body, '\n')) // the client is gone where this fails
	return r.status
}

// plain is a path as any server might come to read it: decoded as often as it can be,
// in lower case, without empty, dot and parameter segments.
func plain(u *url.URL) string {
	p := u.Path
	for range 3 {
		next, err := url.PathUnescape(p)
		if err != nil || next == p {
			break
		}
		p = next
	}
	p = strings.ReplaceAll(p, "\\", "/")
	parts := strings.Split(p, "/")
	for i, s := range parts {
		parts[i], _, _ = strings.Cut(s, ";")
	}
	return strings.ToLower(path.Clean("/" + strings.Join(parts, "/")))
}

// internal says whether a path is of the service's internals.
func internal(u *url.URL) bool { return strings.HasPrefix(plain(u), "/api/v1/_") }

// counts says whether a request counts for scaling: those for the API, but for what
// the spec leaves out.
func counts(s *service, path string) bool {
	if !strings.HasPrefix(path, "/api/") {
		return false
	}
	for _, u := range s.Uncounted {
		if strings.HasPrefix(path, u) {
			return false
		}
	}
	return true
}

// dropsTooMuch says whether Connection names a header without which the message
// means something else (RFC 9110, 7.6.1 lets it name any).
func dropsTooMuch(h http.Header) bool {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.ToLower(strings.TrimSpace(name)); {
			case name == "host", name == "content-length", name == "transfer-encoding", name == "authorization",
				name == "cookie", name == "forwarded", strings.HasPrefix(name, "x-forwarded-"):
				return true
			}
		}
	}
	return false
}
