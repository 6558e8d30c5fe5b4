package acts

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"orch/acts/contract"
)

// toward is a proxy to another server.
func toward(t testing.TB, at string) *httputil.ReverseProxy {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u)
		r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came, what can not be read in it too
	}}
}

// TestUsersApart: two processes that share nothing, and a front that routes by path.
func TestUsersApart(t *testing.T) {
	path, dir := program(t), t.TempDir()
	users := start(t, path, nil, "--serve", "users", "--data", t.TempDir())
	toUsers := toward(t, users.url)
	var asked, foreign atomic.Int64
	inside := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1); r.Header.Get("Origin") != "http://acts.example" || r.Method != "GET" || r.URL.Path != "/api/v1/users" {
			foreign.Add(1)
		}
		toUsers.ServeHTTP(w, r)
	}))
	rest := start(t, path, nil, "--serve", "acts", "--users-url", inside.URL, "--origin", "http://acts.example", "--data", dir)
	toRest := toward(t, rest.url)
	front := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/users" || strings.HasPrefix(r.URL.Path, "/api/v1/users/") {
			toUsers.ServeHTTP(w, r)
			return
		}
		toRest.ServeHTTP(w, r)
	}))
	contract.Run(t, front.URL, contract.Options{Internals: true, Users: users.url})
	if n := asked.Load(); n == 0 || foreign.Load() > 0 {
		t.Errorf("asked %d times, %d without the origin", n, foreign.Load())
	}
	settled(t, front.URL)
	for at, want := range map[string]int{users.url + "/api/v1/categories": 404, rest.url + "/api/v1/users": 404, users.url + "/api/v1/_health": 200, rest.url + "/api/v1/_health": 200} {
		if status, _, _ := ask(t, at, "GET", "", ""); status != want {
			t.Errorf("GET %s: %d, want %d", at, status, want)
		}
	}
	if status, answer, _ := ask(t, front.URL, "POST", "/api/v1/acts", anAct(1, map[string]any{"username": "nobody"})); status != 400 || !strings.Contains(answer, "username") {
		t.Errorf("unknown user: %d %s", status, answer)
	}
	users.kill()
	status, answer, header := ask(t, front.URL, "POST", "/api/v1/acts", anAct(1, nil))
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(answer, "users service") || strings.Contains(answer, "127.0.0.1") {
		t.Errorf("users gone: %d %s, %v", status, answer, header)
	}
	if left := blobs(t, dir); len(left) > 0 {
		t.Errorf("photos of refused uploads: %v", left)
	}
	http.DefaultClient.CloseIdleConnections()
}
