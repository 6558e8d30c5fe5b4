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
	limit   limit // that the request met
}

func (r *refusal) Error() string { return r.message }

var (
	errNoRow       = &refusal{status: http.StatusServiceUnavailable, message: "no container is in rotation; try again in a moment", limit: limitHold}
	errBusy        = &refusal{status: http.StatusServiceUnavailable, message: "all containers are busy; try again in a moment", limit: limitRow}
	errQueue       = &refusal{status: http.StatusServiceUnavailable, message: "all containers are busy, and as many requests wait as may; try again in a moment", limit: limitQueue}
	errNode        = &refusal{status: http.StatusServiceUnavailable, message: "this node has no room for another connection to a container; try again in a moment"}
	errFull        = &refusal{status: http.StatusServiceUnavailable, message: "this node has as many connections as it may; try again in a moment"}
	errNoService   = &refusal{status: http.StatusNotFound, message: "no service has a route for this path"}
	errInternal    = &refusal{status: http.StatusForbidden, message: "this path is internal to the service and closed on the public port"}
	errTooLarge    = &refusal{status: http.StatusRequestEntityTooLarge, message: "the body is larger than this service accepts", limit: limitBody}
	errConnection  = &refusal{status: http.StatusBadRequest, message: "the Connection header names a header that may not be dropped"}
	errUnreached   = &refusal{status: http.StatusBadGateway, message: "no container could be reached"}
	errBadAnswer   = &refusal{status: http.StatusBadGateway, message: "the container's answer is not valid HTTP"}
	errSlow        = &refusal{status: http.StatusGatewayTimeout, message: "the container took too long to answer", limit: limitAnswer}
	errHeadTime    = &refusal{status: http.StatusRequestTimeout, message: "the request's header did not come in time", limit: limitHeadTime}
	errBodyTime    = &refusal{status: http.StatusRequestTimeout, message: "the request's body did not come in time", limit: limitBodyTime}
	errHeadSize    = &refusal{status: http.StatusRequestHeaderFieldsTooLarge, message: "the request's header is too large", limit: limitHead}
	errFields      = &refusal{status: http.StatusRequestHeaderFieldsTooLarge, message: "the request's header has too many fields", limit: limitFields}
	errOptions     = &refusal{status: http.StatusBadRequest, message: "the Connection header names more than it may"}
	errTargetSize  = &refusal{status: http.StatusRequestURITooLong, message: "the request's target is too long", limit: limitTarget}
	errVersion     = &refusal{status: http.StatusHTTPVersionNotSupported, message: "this port speaks HTTP/1.1 and HTTP/1.0"}
	errConnect     = &refusal{status: http.StatusNotImplemented, message: "CONNECT is not for a gateway"}
	errExpect      = &refusal{status: http.StatusExpectationFailed, message: "only 100-continue may be expected"}
	errStart       = &refusal{status: http.StatusBadRequest, message: "the request line is malformed"}
	errTarget      = &refusal{status: http.StatusBadRequest, message: "the request's target is malformed"}
	errField       = &refusal{status: http.StatusBadRequest, message: "a header field is malformed"}
	errLine        = &refusal{status: http.StatusBadRequest, message: "a line of the header does not end with CR LF"}
	errHost        = &refusal{status: http.StatusBadRequest, message: "exactly one valid Host is needed, and it must agree with the target"}
	errLength      = &refusal{status: http.StatusBadRequest, message: "Content-Length is malformed or contradicts itself"}
	errBothLengths = &refusal{status: http.StatusBadRequest, message: "Content-Length and Transfer-Encoding exclude each other"}
	errCoding      = &refusal{status: http.StatusBadRequest, message: "Transfer-Encoding may only be a single chunked, in HTTP/1.1"}
	errChunk       = &refusal{status: http.StatusBadRequest, message: "the chunked body is malformed"}
	errBodyEnd     = &refusal{status: http.StatusBadRequest, message: "the body ended before its length"}
)

// errGone says that the client has hung up: there is nobody to answer.
var errGone = errors.New("the client has gone")

// errLeft is how such a request is counted: by the code that nginx gave to them, for no row
// is to blame, and a 502 would say that one is.
var errLeft = &refusal{status: 499, message: errGone.Error()}

// clientFault is a refusal for a body that net/http could not read to its end.
func clientFault(err error) error {
	var tooLarge *http.MaxBytesError
	var r *refusal
	switch {
	case errors.As(err, &tooLarge):
		return errTooLarge
	case errors.As(err, &r):
		return r
	}
	return errChunk
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
	case errors.Is(err, errGone):
		return errLeft
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
func (x *exchange) refuse(w http.ResponseWriter, err error) {
	r := status(err)
	x.proxy.metrics.met(r.limit)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if x.leaves() {
		h.Set("Connection", "close")
	}
	if r.retryAfter() {
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(r.status)
	w.Write(r.body()) // the client is gone where this fails
}
