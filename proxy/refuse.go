package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
)

// refusal is an answer that the proxy gives itself.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

var (
	errNoRow       = &refusal{http.StatusServiceUnavailable, "no container is in rotation; try again in a moment"}
	errBusy        = &refusal{http.StatusServiceUnavailable, "all containers are busy; try again in a moment"}
	errNoService   = &refusal{http.StatusNotFound, "no service has a route for this path"}
	errInternal    = &refusal{http.StatusForbidden, "this path is internal to the service and closed on the public port"}
	errTooLarge    = &refusal{http.StatusRequestEntityTooLarge, "the body is larger than this service accepts"}
	errConnection  = &refusal{http.StatusBadRequest, "the Connection header names a header that may not be dropped"}
	errUnreached   = &refusal{http.StatusBadGateway, "no container could be reached"}
	errBadAnswer   = &refusal{http.StatusBadGateway, "the container's answer is not valid HTTP"}
	errSlow        = &refusal{http.StatusGatewayTimeout, "the container took too long to answer"}
	errHeadTime    = &refusal{http.StatusRequestTimeout, "the request's header did not come in time"}
	errBodyTime    = &refusal{http.StatusRequestTimeout, "the request's body did not come in time"}
	errHeadSize    = &refusal{http.StatusRequestHeaderFieldsTooLarge, "the request's header is too large or has too many fields"}
	errTargetSize  = &refusal{http.StatusRequestURITooLong, "the request's target is too long"}
	errVersion     = &refusal{http.StatusHTTPVersionNotSupported, "this port speaks HTTP/1.1 and HTTP/1.0"}
	errConnect     = &refusal{http.StatusNotImplemented, "CONNECT is not for a gateway"}
	errExpect      = &refusal{http.StatusExpectationFailed, "only 100-continue may be expected"}
	errStart       = &refusal{http.StatusBadRequest, "the request line is malformed"}
	errTarget      = &refusal{http.StatusBadRequest, "the request's target is malformed"}
	errField       = &refusal{http.StatusBadRequest, "a header field is malformed"}
	errLine        = &refusal{http.StatusBadRequest, "a line of the header does not end with CR LF"}
	errHost        = &refusal{http.StatusBadRequest, "exactly one valid Host is needed, and it must agree with the target"}
	errLength      = &refusal{http.StatusBadRequest, "Content-Length is malformed or contradicts itself"}
	errBothLengths = &refusal{http.StatusBadRequest, "Content-Length and Transfer-Encoding exclude each other"}
	errCoding      = &refusal{http.StatusBadRequest, "Transfer-Encoding may only be a single chunked, in HTTP/1.1"}
	errChunk       = &refusal{http.StatusBadRequest, "the chunked body is malformed"}
	errBodyEnd     = &refusal{http.StatusBadRequest, "the body ended before its length"}
)

// errGone says that the client has hung up: there is nobody to answer.
var errGone = errors.New("the client has gone")

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

// body is what the client of a refused request reads.
func (r *refusal) body() []byte {
	b, err := json.Marshal(map[string]any{"error": map[string]any{"code": r.status, "message": r.message}})
	if err != nil {
		panic(err) // a string and a number always marshal
	}
	return append(b, '\n')
}

// retryAfter says whether the client should come again in a second.
func (r *refusal) retryAfter() bool { return r.status == http.StatusServiceUnavailable }

// refuse answers err over net/http.
func refuse(w http.ResponseWriter, err error) int {
	r := status(err)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if r.retryAfter() {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(r.status)
	w.Write(r.body()) // the client is gone where this fails
	return r.status
}
