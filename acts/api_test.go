package acts

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gopkg.in/yaml.v3"

	"orch/acts/contract"
)

// seen are the methods and statuses that each route has answered with, and the lists of
// acts.
type seen struct {
	mu    sync.Mutex
	of    map[string]map[string]bool // "GET /path" → statuses
	lists []actList
}

type actList struct {
	images bool
	body   []byte
}

// copied keeps what is written.
type copied struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (w *copied) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

func (w *copied) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// over notes what s answers.
func (x *seen) over(s *Service) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		found, ok := s.mux.match(r)
		out := &copied{ResponseWriter: w}
		note := &statusWriter{ResponseWriter: out, status: http.StatusOK, patience: slowReader}
		s.ServeHTTP(note, r)
		if !ok || note.status == http.StatusMethodNotAllowed || r.Method == http.MethodOptions || r.Method == http.MethodHead {
			return // said once for all of them
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		key := r.Method + " " + found.name
		if x.of[key] == nil {
			x.of[key] = map[string]bool{}
		}
		x.of[key][strconv.Itoa(note.status)] = true
		if key == "GET /api/v1/categories/{category}/acts" && note.status == http.StatusOK {
			x.lists = append(x.lists, actList{r.URL.Query().Get("images") != "0", out.body.Bytes()})
		}
	})
}

// rare are statuses that the contract alone does not bring about; each has a test of
// its own.
var rare = []string{
	"POST /api/v1/acts 408", "POST /api/v1/acts 503", "POST /api/v1/users 408", "POST /api/v1/users 413", "POST /api/v1/users 503",
	"POST /api/v1/categories 408", "POST /api/v1/categories 413", "POST /api/v1/categories 503",
	"POST /api/v1/acts/upvote 408", "POST /api/v1/acts/upvote 413", "POST /api/v1/acts/upvote 503",
	"GET /api/v1/users 503", "GET /api/v1/categories 503", "GET /api/v1/categories/{category}/acts 503", "GET /api/v1/acts/{actId}/image 503",
	"GET /api/v1/_health 500", "POST /api/v1/_crash 200", "GET /api/openapi.yaml 200",
}

// TestContract over two processes, request by request in turn, and nothing but what
// openapi.yaml says.
func TestContract(t *testing.T) {
	dir := t.TempDir()
	x := &seen{of: map[string]map[string]bool{}}
	processes := []http.Handler{x.over(opened(t, Config{Data: dir})), x.over(opened(t, Config{Data: dir}))}
	var turn atomic.Uint64
	front := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		processes[turn.Add(1)%2].ServeHTTP(w, r)
	}))
	contract.Run(t, front.URL, contract.Options{Internals: true})
	if t.Failed() {
		return
	}
	listedAs(t, x.lists)
	documented := documented(t)
	for route, statuses := range x.of {
		for status := range statuses {
			if !strings.HasPrefix(route, "GET / ") && route != "GET /" && !slices.Contains(documented[route], status) {
				t.Errorf("%s answers %s, of which openapi.yaml knows nothing", route, status)
			}
		}
	}
	for route, statuses := range documented {
		for _, status := range statuses {
			if !x.of[route][status] && !slices.Contains(rare, route+" "+status) {
				t.Errorf("%s never answered %s, which openapi.yaml documents", route, status)
			}
		}
	}
}

// listedAs holds lists of acts to the fields that openapi.yaml has for them.
func listedAs(t *testing.T, lists []actList) {
	t.Helper()
	var doc struct {
		Components struct {
			Schemas map[string]struct {
				Required   []string
				Properties map[string]yaml.Node
			}
		}
	}
	if err := yaml.Unmarshal(openAPIDocument, &doc); err != nil {
		t.Fatal(err)
	}
	schema := doc.Components.Schemas["ListedAct"]
	with := map[bool]int{}
	for _, l := range lists {
		var acts []map[string]any
		if err := json.Unmarshal(l.body, &acts); err != nil {
			t.Fatalf("%v: %.200s", err, l.body)
		}
		with[l.images] += len(acts)
		for _, a := range acts {
			for _, field := range schema.Required {
				if _, ok := a[field]; !ok {
					t.Errorf("an act is listed without %s, which openapi.yaml requires (images: %t)", field, l.images)
				}
			}
			for field := range a {
				if _, ok := schema.Properties[field]; !ok {
					t.Errorf("an act is listed with %s, of which openapi.yaml knows nothing", field)
				}
			}
			if _, ok := a["imgB64"]; ok != l.images {
				t.Errorf("an act is listed with its photo: %t, asked for: %t", ok, l.images)
			}
		}
	}
	if with[true] == 0 || with[false] == 0 || len(schema.Required) == 0 {
		t.Errorf("%v acts were listed, with photos and without; %v are required", with, schema.Required)
	}
}

// documented are the routes of openapi.yaml with their statuses.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]yaml.Node
	}
	if err := yaml.Unmarshal(openAPIDocument, &doc); err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for path, item := range doc.Paths {
		for method, node := range item {
			if method == "parameters" {
				continue
			}
			var op struct {
				Summary   string
				Responses map[string]yaml.Node
			}
			if err := node.Decode(&op); err != nil || op.Summary == "" || len(op.Responses) == 0 {
				t.Errorf("%s %s: %v, summary %q", method, path, err, op.Summary)
			}
			key := strings.ToUpper(method) + " " + path
			out[key] = []string{}
			for status := range op.Responses {
				out[key] = append(out[key], status)
			}
		}
	}
	return out
}

// TestDocumentHasEveryRoute and no other.
func TestDocumentHasEveryRoute(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	have := map[string]bool{}
	for _, r := range s.mux.routes {
		for method := range r.methods {
			if strings.HasPrefix(r.name, "/api/") {
				have[method+" "+r.name] = true
			}
		}
	}
	all := documented(t)
	for route := range have {
		if all[route] == nil {
			t.Errorf("%s is not in openapi.yaml", route)
		}
	}
	for route := range all {
		if !have[route] {
			t.Errorf("openapi.yaml has %s, which nobody answers", route)
		}
	}
	if status, body, _ := ask(t, serving(t, s).URL, "GET", "/api/openapi.yaml", ""); status != 200 || body != strings.TrimSpace(string(openAPIDocument)) {
		t.Errorf("the document: %d, %d bytes", status, len(body))
	}
}

// TestStrictContract refuses what is no image.
func TestStrictContract(t *testing.T) {
	contract.Run(t, serving(t, opened(t, Config{Data: t.TempDir(), Strict: true})).URL, contract.Options{Internals: true, Strict: true})
}

// TestCrash: one process answers 500 to everything; the other does not know.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	one, other := service(t, dir), service(t, dir)
	if status, body, h := ask(t, one.URL, "POST", "/api/v1/_crash", ""); status != 200 || body != "{}" || h.Get("Content-Type") != "application/json" {
		t.Fatalf("crash: %d %s %v", status, body, h)
	}
	for _, path := range []string{"/", "/api/v1/_health", "/api/v1/_crash", "/api/v1/categories", "/none", "/api/openapi.yaml"} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			status, body, h := ask(t, one.URL, method, path, "")
			if status != 500 || !strings.Contains(body, `"message":"this container has crashed`) || h.Get("Content-Type") != "application/json" {
				t.Errorf("%s %s: %d %s", method, path, status, body)
			}
			if strings.HasPrefix(path, "/api/") && h.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s %s: %v", method, path, h)
			}
		}
	}
	if status, _, _ := ask(t, other.URL, "GET", "/api/v1/_health", ""); status != 200 {
		t.Errorf("the other: %d", status)
	}
	if _, n, _ := ask(t, other.URL, "GET", "/api/v1/_count", ""); n != "[6]" { // /categories and /api/openapi.yaml, three times each
		t.Errorf("%s requests are counted: those that fail are too", n)
	}
}

// TestHeaders: an answer does nothing in a browser but what it is for.
func TestHeaders(t *testing.T) {
	s := service(t, t.TempDir())
	for _, path := range []string{"/", "/api/v1/categories", "/none"} {
		_, _, h := ask(t, s.URL, "GET", path, "")
		if p := h.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'self'") || !strings.Contains(p, "frame-ancestors 'none'") || strings.Contains(p, "unsafe") {
			t.Errorf("%s: policy %q", path, p)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// fuzzSeeds are requests near the edge of what is understood.
var fuzzSeeds = []struct{ method, path, body string }{
	{"POST", "/api/v1/acts", anAct(1, nil)}, {"GET", "/api/v1/categories/a%2Fb/acts", ""}, {"POST", "/api/v1/acts/upvote", "[1e3]"}, {"GET", "/api/v1/acts/1/image?w=20", ""},
	{"GET", "/api/v1/categories/%FF/acts", ""}, {"DELETE", "/api/v1/users/%00", ""}, {"DELETE", "/api/v1/categories/%00", ""}, {"GET", "/api/v1/categories/%ff%00/acts/size", ""},
	{"POST", "/api/v1/categories", "[\"\xff\"]"}, {"POST", "/api/v1/categories", `["\ud800"]`}, {"POST", "/api/v1/users", `{"username":"` + "\xff\xfe" + `","password":"` + hash + `"}`},
	{"DELETE", "/api/v1/acts/-9223372036854775808", ""}, {"GET", "/api/v1/categories/green/acts?start=-9223372036854775808&end=9223372036854775807", ""}, {"GET", "/api/v1/acts/9223372036854775807/image", ""},
}

// noFault fails where an answer blames the service.
func noFault(t *testing.T, s *Service, method, path, body string) {
	r, err := http.NewRequest(method, "http://h/", strings.NewReader(body))
	if err != nil || strings.HasSuffix(path, "_crash") {
		return
	}
	if r.URL, err = r.URL.Parse(path); err != nil {
		return
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code >= 500 {
		t.Errorf("%s %q %q: %d %s", method, path, body, w.Code, w.Body)
	}
}

func FuzzActs(f *testing.F) {
	s := opened(f, Config{Data: f.TempDir()})
	for _, x := range fuzzSeeds {
		f.Add(x.method, x.path, x.body)
	}
	f.Fuzz(func(t *testing.T, method, path, body string) { noFault(t, s, method, path, body) })
}

func FuzzParseAct(f *testing.F) {
	f.Add([]byte(anAct(1, nil)))
	f.Add([]byte(anAct(1, map[string]any{"imgB64": "a\\/b="})))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, photo, err := parseAct(b, maxPhoto)
		if err == nil && (a.ID < 0 || int64(len(photo)) != a.Photo.Size || a.At.IsZero() && a.Timestamp == "") {
			t.Errorf("accepted %+v", a)
		}
	})
}
