package api

import (
	"fmt"
	"net/http"

	"orch/fsm"
)

// Identity is who sends a request, and as what. The zero Identity is a stranger.
type Identity struct {
	Name string   // for the history, and for refusals
	Role fsm.Role // of a person; empty is none
	Node string   // ID of a node of the cluster that may speak as such
	// Key is the digest of the public key that the caller has shown, a stranger's too;
	// empty on the socket.
	Key string
	// Refused is why one who shows a certificate is let do nothing: ErrRemoved or
	// ErrLeft, with what to do.
	Refused error
}

// Identify says who sends a request. It sees the connection: r.TLS has the certificates
// of the caller, and http.LocalAddrContextKey in r's context the listener's address,
// whose network is "unix" on the operator's socket.
type Identify func(r *http.Request) Identity

// WithIdentify has every request but /-/healthy and /-/ready judged by who sends it.
func WithIdentify(f Identify) Option { return func(s *Server) { s.identify = f } }

// nobody is who sends requests to a server that can not tell.
func nobody(*http.Request) Identity { return Identity{} }

// access is who may use a route: people from a role on, and nodes.
type access struct {
	least fsm.Role // empty: no person
	nodes bool
}

func (a access) allows(who Identity) bool {
	return a.nodes && who.Node != "" || a.least != "" && who.Role.Includes(a.least)
}

// only serves those whom a route is for.
func (s *Server) only(a access, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := s.identify(r)
		switch {
		case who.Refused != nil:
			fail(w, who.Refused)
		case !a.allows(who):
			fail(w, fmt.Errorf("%w: %s", ErrForbidden, denied(who, a, r)))
		default:
			next(w, r)
		}
	})
}

// denied says what is missing, and who can give it.
func denied(who Identity, a access, r *http.Request) string {
	what := r.Method + " " + r.URL.Path
	switch {
	case who.Name == "":
		return fmt.Sprintf("a stranger may not %s: run orchctl on a machine of the cluster, by its socket, or log in with a bundle that 'orchctl grant' has made", what)
	case a.least == "":
		return fmt.Sprintf("%s may not %s: nodes ask that of each other", who.Name, what)
	case who.Role == "":
		return fmt.Sprintf("%s may not %s: that is for people with the role %s", who.Name, what, a.least)
	}
	return fmt.Sprintf("%s has the role %s, and %s needs %s: an admin gives it with 'orchctl grant %s --role %s'", who.Name, who.Role, what, a.least, who.Name, a.least)
}

// by is who asks, for the history.
func (s *Server) by(r *http.Request) string { return s.identify(r).Name }
