package acts

import (
	"net/http"
	"slices"
	"strings"
	"time"
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

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.unasked(w, r)
	if s.crashed.Load() {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(slowReader))
		http.Error(w, "crashed", http.StatusInternalServerError)
		return
	}
	x, ok := s.mux.match(r)
	s.metrics.around(x.name, w, r, func(w http.ResponseWriter) { s.serve(w, r, x, ok) })
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, x route, known bool) {
	h := w.Header()
	headers(h)
	if strings.HasPrefix(r.URL.Path, "/api/") {
		h.Set("Access-Control-Allow-Origin", "*")
		if !strings.HasPrefix(r.URL.Path, "/api/v1/_") {
			s.counter.add()
		}
	}
	if !known {
		fail(w, http.StatusNotFound, "no such path: %s", r.URL.Path)
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	f, ok := x.methods[method]
	if ok {
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
		h.Set("Access-Control-Allow-Methods", list)
		h.Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h.Set("Allow", list)
	fail(w, http.StatusMethodNotAllowed, "%s is not a method of %s; allowed: %s", r.Method, r.URL.Path, list)
}
