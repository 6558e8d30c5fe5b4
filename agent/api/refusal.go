package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

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
	// ErrTooLarge: the body is longer than is read.
	ErrTooLarge = errors.New("body too large")
	// ErrUnreachable: a node that had to be asked does not answer.
	ErrUnreachable = errors.New("no answer")
	// ErrForbidden: the caller may not ask this.
	ErrForbidden = errors.New("not allowed")
	// ErrRemoved: the caller's key is shut out.
	ErrRemoved = errors.New("shut out")
	// ErrLeft: the caller is a node that has left, or was lost for too long.
	ErrLeft = errors.New("has left the cluster")
	// ErrTooMany: an address has failed so often that it has to wait.
	ErrTooMany = errors.New("too many attempts")
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

// refusals are the codes, what each means on either side of the wire, and what to do
// next where the error itself does not say.
var refusals = []struct {
	code   string
	err    error
	status int
	next   string
}{
	{"stale", fsm.ErrStale, http.StatusConflict, "look again, and repeat what is still wanted"},
	{"no_such_service", fsm.ErrNoSuchService, http.StatusNotFound, "`orchctl status` lists the services, `orchctl apply -f FILE` adds one"},
	{"no_such_container", fsm.ErrNoSuchRow, http.StatusNotFound, "`orchctl ps` lists the containers"},
	{"no_such_node", fsm.ErrNoSuchNode, http.StatusNotFound, "`orchctl nodes` lists the nodes"},
	{"exists", fsm.ErrExists, http.StatusConflict, ""},
	{"port_in_use", fsm.ErrPortInUse, http.StatusConflict, "`orchctl ps` shows by whom"},
	{"address_in_use", fsm.ErrAddrInUse, http.StatusConflict, ""},
	{"node_in_use", fsm.ErrNodeInUse, http.StatusConflict, "`orchctl leave` on that node moves them first"},
	{"node_down", fsm.ErrNodeDown, http.StatusConflict, "`orchctl nodes` shows which are alive"},
	{"out_of_range", fsm.ErrOutOfRange, http.StatusBadRequest, ""},
	{"foreign", fsm.ErrForeign, http.StatusConflict, ""},
	{"no_such_person", fsm.ErrNoSuchPerson, http.StatusNotFound, "`orchctl trust` lists them"},
	{"too_many", ErrTooMany, http.StatusTooManyRequests, ""},
	{"refused", fsm.ErrRefused, http.StatusForbidden, ""},
	{"removed", ErrRemoved, http.StatusForbidden, ""},
	{"left", ErrLeft, http.StatusForbidden, ""},
	{"outcome_unknown", ErrUnknown, http.StatusServiceUnavailable, "see `orchctl status`, and give the command again: to repeat it does no harm"},
	{"no_leader", ErrNoLeader, http.StatusServiceUnavailable, "see `orchctl status`"},
	{"not_member", ErrNotMember, http.StatusConflict, ""},
	{"member", ErrMember, http.StatusConflict, ""},
	{"too_large", ErrTooLarge, http.StatusRequestEntityTooLarge, ""},
	{"bad_request", ErrBad, http.StatusBadRequest, ""},
	{"forbidden", ErrForbidden, http.StatusForbidden, ""},
	{"unreachable", ErrUnreachable, http.StatusBadGateway, ""},
	{"timeout", context.DeadlineExceeded, http.StatusGatewayTimeout, "see `orchctl status` for what does not answer, and try again"},
}

// fail answers err in the one shape that errors have.
func fail(w http.ResponseWriter, err error) {
	e, status, next := &Error{"internal", err.Error()}, http.StatusInternalServerError, "the log of orchd on this node says more"
	var wrong fsm.SpecError
	if errors.As(err, &wrong) {
		err = fmt.Errorf("%w: %w", ErrBad, err)
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			e.Code, status, next = r.code, r.status, r.next
			break
		}
	}
	var said *Error // by another node, with what to do
	if next != "" && !errors.As(err, &said) && !strings.Contains(e.Message, "orchctl") {
		e.Message += "; " + next
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
