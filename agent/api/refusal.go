package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"orch/fsm"
)

// Sentinels of the API itself.
var (
	// ErrNoLeader: no leader is known; nothing was written.
	ErrNoLeader = errors.New("no leader")
	// ErrUnknown: the command may or may not have been committed; look, and try again.
	ErrUnknown = errors.New("outcome unknown")
	// ErrNotMember: this node is in no cluster yet.
	ErrNotMember = errors.New("this node is in no cluster yet")
	// ErrMember: this node is in a cluster already.
	ErrMember = errors.New("this node is in a cluster already")
	// ErrBad: the request itself is wrong.
	ErrBad = errors.New("bad request")
)

// Error is an answer that is not a success. errors.Is finds the sentinel behind its
// code, also on the other side of the wire.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the sentinel of the code.
func (e *Error) Unwrap() error {
	for _, r := range refusals {
		if r.code == e.Code {
			return r.err
		}
	}
	return nil
}

var refusals = []struct {
	code   string
	err    error
	status int
}{
	{"stale", fsm.ErrStale, http.StatusConflict},
	{"no_such_service", fsm.ErrNoSuchService, http.StatusNotFound},
	{"no_such_container", fsm.ErrNoSuchRow, http.StatusNotFound},
	{"no_such_node", fsm.ErrNoSuchNode, http.StatusNotFound},
	{"exists", fsm.ErrExists, http.StatusConflict},
	{"port_in_use", fsm.ErrPortInUse, http.StatusConflict},
	{"address_in_use", fsm.ErrAddrInUse, http.StatusConflict},
	{"node_in_use", fsm.ErrNodeInUse, http.StatusConflict},
	{"node_down", fsm.ErrNodeDown, http.StatusConflict},
	{"out_of_range", fsm.ErrOutOfRange, http.StatusBadRequest},
	{"foreign", fsm.ErrForeign, http.StatusConflict},
	{"no_leader", ErrNoLeader, http.StatusServiceUnavailable},
	{"outcome_unknown", ErrUnknown, http.StatusServiceUnavailable},
	{"not_member", ErrNotMember, http.StatusConflict},
	{"member", ErrMember, http.StatusConflict},
	{"bad_request", ErrBad, http.StatusBadRequest},
	{"timeout", context.DeadlineExceeded, http.StatusGatewayTimeout},
}

// fail answers err in the one shape that errors have.
func fail(w http.ResponseWriter, err error) {
	e, status := &Error{"internal", err.Error()}, http.StatusInternalServerError
	var wrong fsm.SpecError
	if errors.As(err, &wrong) {
		e.Code, status = "bad_request", http.StatusBadRequest
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			e.Code, status = r.code, r.status
			break
		}
	}
	if errors.Is(err, ErrNoLeader) {
		w.Header().Set("Retry-After", "1")
	}
	answer(w, status, map[string]*Error{"error": e})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the peer is gone where this fails
}

// failure reads what fail wrote.
func failure(status int, body []byte) error {
	var b struct {
		Error *Error `json:"error"`
	}
	if json.Unmarshal(body, &b) != nil || b.Error == nil {
		return fmt.Errorf("the node answered %d %s: is it an orchd of this version?", status, http.StatusText(status))
	}
	return b.Error
}
