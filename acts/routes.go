package acts

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
)

// mux finds a handler by path first and method second: a known path with another
// method is 405 before any look at body or existence, and literal paths win over
// parameters.
type mux struct{ routes []route }

type route struct {
	segments []string // "{x}" stands for one
	methods  map[string]http.HandlerFunc
}

func (m *mux) handle(method, path string, h http.HandlerFunc) {
	segments := strings.Split(path, "/")
	i := slices.IndexFunc(m.routes, func(r route) bool { return slices.Equal(r.segments, segments) })
	if i < 0 {
		i = len(m.routes)
		m.routes = append(m.routes, route{segments, map[string]http.HandlerFunc{}})
	}
	m.routes[i].methods[method] = h
}

func parameter(s string) bool { return strings.HasPrefix(s, "{") }

// match returns the route with the most literal segments; it sets the parameters.
func (m *mux) match(r *http.Request) (route, bool) {
	parts := strings.Split(r.URL.EscapedPath(), "/")
	var best *route
	literals := -1
	for i, x := range m.routes {
		if len(x.segments) != len(parts) {
			continue
		}
		n := 0
		for k, s := range x.segments {
			if s == parts[k] {
				n++
			} else if !parameter(s) || parts[k] == "" {
				n = -1
				break
			}
		}
		if n > literals {
			best, literals = &m.routes[i], n
		}
	}
	if best == nil {
		return route{}, false
	}
	for k, s := range best.segments {
		if parameter(s) {
			value, err := unescape(parts[k])
			if err != nil {
				return route{}, false
			}
			r.SetPathValue(strings.Trim(s, "{}"), value)
		}
	}
	return *best, true
}

func (s *Service) routes() *mux {
	m := &mux{}
	m.handle("GET", "/", s.page)
	m.handle("GET", "/api/v1/_health", s.health)
	m.handle("POST", "/api/v1/_crash", s.crash)
	m.handle("GET", "/api/v1/_count", s.requests)
	m.handle("DELETE", "/api/v1/_count", s.resetRequests)
	m.handle("POST", "/api/v1/users", s.addUser)
	m.handle("GET", "/api/v1/users", s.listUsers)
	m.handle("DELETE", "/api/v1/users/{username}", s.removeUser)
	m.handle("GET", "/api/v1/categories", s.listCategories)
	m.handle("POST", "/api/v1/categories", s.addCategory)
	m.handle("DELETE", "/api/v1/categories/{category}", s.removeCategory)
	m.handle("GET", "/api/v1/categories/{category}/acts", s.listActs)
	m.handle("GET", "/api/v1/categories/{category}/acts/size", s.categorySize)
	m.handle("POST", "/api/v1/acts", s.addAct)
	m.handle("POST", "/api/v1/acts/upvote", s.upvote)
	m.handle("GET", "/api/v1/acts/count", s.countActs)
	m.handle("DELETE", "/api/v1/acts/{actId}", s.removeAct)
	return m
}

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.crashed.Load() {
		http.Error(w, "crashed", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("X-Content-Type-Options", "nosniff")
	if strings.HasPrefix(r.URL.Path, "/api/") && !strings.HasPrefix(r.URL.Path, "/api/v1/_") {
		s.counter.value.Add(1)
	}
	x, ok := s.mux.match(r)
	if !ok {
		fail(w, http.StatusNotFound, "no such path: %s", r.URL.Path)
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	allowed := make([]string, 0, len(x.methods)+1)
	for m := range x.methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", strings.Join(allowed, ", "))
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	f, ok := x.methods[method]
	if !ok {
		h.Set("Allow", strings.Join(allowed, ", "))
		fail(w, http.StatusMethodNotAllowed, "%s is not a method of %s; allowed: %s", r.Method, r.URL.Path, strings.Join(allowed, ", "))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	f(w, r)
}

// answer writes body as JSON.
func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the client is gone where this fails
}

// broken answers an error that is not the client's.
func (s *Service) broken(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "reason", err)
	}
	fail(w, http.StatusInternalServerError, "the service could not use its database; try again")
}

func tooLarge(err error) bool {
	var t *http.MaxBytesError
	return errors.As(err, &t)
}
