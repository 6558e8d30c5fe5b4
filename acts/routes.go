package acts

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
)

// mux finds a handler by path first and method second: a known path with another
// method is 405 before any look at body or existence, and literal paths win over
// parameters.
type mux struct{ routes []route }

type route struct {
	name     string   // as it was registered; empty for a path that is not known
	segments []string // "{x}" stands for one
	methods  map[string]http.HandlerFunc
}

func (m *mux) handle(method, path string, h http.HandlerFunc) {
	segments := strings.Split(path, "/")
	i := slices.IndexFunc(m.routes, func(r route) bool { return slices.Equal(r.segments, segments) })
	if i < 0 {
		i = len(m.routes)
		m.routes = append(m.routes, route{path, segments, map[string]http.HandlerFunc{}})
	}
	m.routes[i].methods[method] = h
}

func (r route) parameters() (names []string) {
	for _, s := range r.segments {
		if parameter(s) {
			names = append(names, strings.Trim(s, "{}"))
		}
	}
	return names
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
			value, err := url.PathUnescape(parts[k])
			if err != nil {
				return route{}, false
			}
			r.SetPathValue(strings.Trim(s, "{}"), value)
		}
	}
	return *best, true
}

// routes of what a process serves; docs/openapi.yaml describes them all.
func (s *Service) routes(what string) *mux {
	m := &mux{}
	m.handle("GET", "/api/v1/_health", s.health)
	m.handle("POST", "/api/v1/_crash", s.crash)
	m.handle("GET", "/api/v1/_count", s.requests)
	m.handle("DELETE", "/api/v1/_count", s.resetRequests)
	if what != ServeActs {
		m.handle("POST", "/api/v1/users", s.addUser)
		m.handle("GET", "/api/v1/users", s.listUsers)
		m.handle("DELETE", "/api/v1/users/{username}", s.removeUser)
	}
	if what == ServeUsers {
		return m
	}
	s.pageRoutes(m)
	m.handle("GET", "/api/openapi.yaml", s.openAPI)
	m.handle("GET", "/api/v1/categories", s.listCategories)
	m.handle("POST", "/api/v1/categories", s.addCategory)
	m.handle("DELETE", "/api/v1/categories/{category}", s.removeCategory)
	m.handle("GET", "/api/v1/categories/{category}/acts", s.listActs)
	m.handle("GET", "/api/v1/categories/{category}/acts/size", s.categorySize)
	m.handle("POST", "/api/v1/acts", s.addAct)
	m.handle("POST", "/api/v1/acts/upvote", s.upvote)
	m.handle("GET", "/api/v1/acts/count", s.countActs)
	m.handle("DELETE", "/api/v1/acts/{actId}", s.removeAct)
	m.handle("GET", "/api/v1/acts/{actId}/image", s.image)
	return m
}

// policy is what a browser may do with an answer: nothing but what comes from here.
const policy = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

func headers(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(self), geolocation=(), microphone=()")
}

// headersOf a path are the same on every answer. Pages of other hosts may read those of
// the API, failures too.
func headersOf(h http.Header, path string) {
	headers(h)
	if strings.HasPrefix(path, "/api/") {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "ETag, Retry-After")
	}
}

// counted are requests of the API but for the three that ask a container of itself.
func counted(path string) bool {
	switch path {
	case "/api/v1/_health", "/api/v1/_crash", "/api/v1/_count":
		return false
	}
	return strings.HasPrefix(path, "/api/")
}

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	headersOf(w.Header(), r.URL.Path)
	if !s.inside.TryAcquire(1) {
		w.Header().Set("Connection", "close")
		later(w)
		fail(w, http.StatusServiceUnavailable, "this container ends; try again")
		return
	}
	defer s.inside.Release(1)
	if counted(r.URL.Path) {
		s.counter.add() // whatever becomes of it
	}
	s.unasked(w, r)
	x, ok := s.mux.match(r)
	s.metrics.around(x.name, w, r, func(w *statusWriter) {
		defer s.fault(w, r)
		s.serve(w, r, x, ok)
	})
}

// fault answers a panic of ours, and logs where it was. What has begun is cut off.
func (s *Service) fault(w *statusWriter, r *http.Request) {
	e := recover()
	if e == nil {
		return
	}
	if e == http.ErrAbortHandler { // meant, and logged where there is something to say
		panic(e)
	}
	s.log.Error("panic", "method", r.Method, "path", r.URL.Path, "reason", fmt.Sprint(e), "stack", string(debug.Stack()))
	if w.began {
		panic(http.ErrAbortHandler)
	}
	clear(w.Header()) // those of the answer that was meant
	headersOf(w.Header(), r.URL.Path)
	fail(w, http.StatusInternalServerError, "the service has a fault; it has been logged")
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, x route, known bool) {
	if s.crashed.Load() {
		fail(w, http.StatusInternalServerError, "this container has crashed; ask another one")
		return
	}
	if !known {
		fail(w, http.StatusNotFound, "no such path: %s", r.URL.Path)
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if f, ok := x.methods[method]; ok {
		for _, field := range x.parameters() {
			if value := r.PathValue(field); !storable(value) { // so that nothing has it for a name
				fail(w, http.StatusBadRequest, "%s: there is no %.80q; give one that exists", field, value)
				return
			}
		}
		f(w, r)
		return
	}
	allowed := make([]string, 0, len(x.methods)+1)
	for m := range x.methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	if r.Method == http.MethodOptions {
		w.Header().Set("Access-Control-Allow-Methods", list)
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Allow", list)
	fail(w, http.StatusMethodNotAllowed, "%s is not a method of %s; allowed: %s", r.Method, r.URL.Path, list)
}
