package api

import (
	"fmt"
	"net/http"
)

// Identity is who sends a request, and as what.
type Identity struct {
	Name     string // for the refusal
	Operator bool   // may change the cluster
	Node     bool   // may speak as a node of the cluster
}

// Identify says who sends a request. It sees the connection: r.TLS has the certificates
// of the caller, and http.LocalAddrContextKey in r's context the listener's address,
// whose network is "unix" on the operator's socket. The zero Identity is a stranger.
type Identify func(r *http.Request) Identity

// WithIdentify has every request but /-/healthy and /-/ready judged by who sends it.
func WithIdentify(f Identify) Option { return func(s *Server) { s.identify = f } }

// trusted is for listeners that only this machine reaches: whoever does is both.
func trusted(*http.Request) Identity { return Identity{Operator: true, Node: true} }

func anyone(i Identity) bool   { return i.Operator || i.Node }
func operator(i Identity) bool { return i.Operator }
func node(i Identity) bool     { return i.Node }

// only serves those whom may allows.
func (s *Server) only(may func(Identity) bool, next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who := s.identify(r); !may(who) {
			name := who.Name
			if name == "" {
				name = "a stranger"
			}
			fail(w, fmt.Errorf("%w: %s may not %s %s; run orchctl on a machine of the cluster, by its socket", ErrForbidden, name, r.Method, r.URL.Path))
			return
		}
		next(w, r)
	})
}
