package acts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service opens one process's worth of the service over a folder.
func service(t *testing.T, dir string) *httptest.Server {
	t.Helper()
	s := &Service{log: slog.New(slog.DiscardHandler)}
	var err error
	if s.store, err = openStore(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if s.counter, err = openCounter(filepath.Join(dir, "count")); err != nil {
		t.Fatal(err)
	}
	s.mux = s.routes()
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.Close()
		s.store.Close()
		s.counter.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server
}

func ask(t *testing.T, url, method, path, body string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b)), resp.Header
}

const hash = "0123456789abcdef0123456789ABCDEF01234567"

// anAct is an upload; edits replace or (nil) remove fields.
func anAct(id int, edits map[string]any) string {
	m := map[string]any{"actId": id, "username": "ann", "timestamp": "28-02-2019:05-04-03", "caption": "helped", "categoryName": "green", "imgB64": "aGVsbG8="}
	for k, v := range edits {
		if m[k] = v; v == nil {
			delete(m, k)
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestContract walks through the API in the order in which a client would; each line
// goes to the other of two processes, so that every write is read through the other.
func TestContract(t *testing.T) {
	dir := t.TempDir()
	processes := []*httptest.Server{service(t, dir), service(t, dir)}
	big := bytes.Repeat([]byte("A"), (maxPhoto/3+1)*4)
	counted := 0
	for i, c := range []struct {
		method, path, body string
		status             int
		want               string // the whole body, or a part of an error
	}{
		{"GET", "/", "", 200, "SelfieLessActs"},
		{"GET", "/api/v1/_health", "", 200, ""},
		{"GET", "/api/v1/users", "", 204, ""},
		{"POST", "/api/v1/users", `{"username":"ann","password":"` + hash + `"}`, 201, "{}"},
		{"POST", "/api/v1/users", `{"username":"ann","password":"` + hash + `"}`, 400, "username"},
		{"POST", "/api/v1/users", `{"username":"bob","password":"` + hash[1:] + `"}`, 400, "password"},
		{"POST", "/api/v1/users", `{"username":"bob"}`, 400, "password"},
		{"POST", "/api/v1/users", `{"password":"` + hash + `"}`, 400, "username"},
		{"POST", "/api/v1/users", `{`, 400, "body"},
		{"GET", "/api/v1/users", "{}", 200, `["ann"]`},
		{"PUT", "/api/v1/users", "", 405, "PUT"},
		{"GET", "/api/v1/categories", "", 204, ""},
		{"POST", "/api/v1/categories", `["green"]`, 201, "{}"},
		{"POST", "/api/v1/categories", `["green"]`, 400, "green"},
		{"POST", "/api/v1/categories", `[]`, 400, "exactly one"},
		{"POST", "/api/v1/categories", `["a","b"]`, 400, "exactly one"},
		{"POST", "/api/v1/categories", `[""]`, 400, "exactly one"},
		{"POST", "/api/v1/categories", `{"a":1}`, 400, "body"},
		{"GET", "/api/v1/categories", "", 200, `{"green":0}`},
		{"GET", "/api/v1/categories/green/acts", "", 204, ""},
		{"GET", "/api/v1/categories/green/acts/size", "", 200, "[0]"},
		{"GET", "/api/v1/categories/none/acts", "", 400, "none"},
		{"GET", "/api/v1/categories/none/acts/size", "", 400, "none"},
		{"POST", "/api/v1/acts", anAct(1, nil), 201, "{}"},
		{"POST", "/api/v1/acts", anAct(1, nil), 400, "actId"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"username": "bob"}), 400, "username"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"categoryName": "none"}), 400, "categoryName"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"timestamp": "31-02-2019:00-00-00"}), 400, "timestamp"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"timestamp": "1-1-2019:00-00-00"}), 400, "timestamp"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"imgB64": "aGVsbG8"}), 400, "imgB64"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"imgB64": "aGVs\nbG8="}), 400, "imgB64"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"imgB64": "data:image/png;base64,aGVsbG8="}), 400, "imgB64"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"imgB64": string(big)}), 413, ""},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"upvotes": 0}), 400, "upvotes"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"caption": nil}), 400, "caption"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"actId": "2x"}), 400, ""},
		{"POST", "/api/v1/acts", anAct(-1, nil), 400, "actId"},
		{"POST", "/api/v1/acts", anAct(2, map[string]any{"timestamp": "28-02-2019:06-04-03"}), 201, "{}"},
		{"POST", "/api/v1/acts", anAct(3, nil), 201, "{}"},
		{"POST", "/api/v1/acts/upvote", `[3]`, 200, "{}"},
		{"POST", "/api/v1/acts/upvote", `[9]`, 400, "9"},
		{"POST", "/api/v1/acts/upvote", `["x"]`, 400, ""},
		{"DELETE", "/api/v1/acts/upvote", "", 405, "DELETE"},
		{"DELETE", "/api/v1/acts/count", "", 405, "DELETE"},
		{"GET", "/api/v1/acts/count", "", 200, "[3]"},
		{"GET", "/api/v1/categories/green/acts/size", "", 200, "[3]"},
		{"GET", "/api/v1/categories/green/acts?start=0&end=1", "", 400, "out of bounds"},
		{"GET", "/api/v1/categories/green/acts?start=2&end=1", "", 400, "out of bounds"},
		{"GET", "/api/v1/categories/green/acts?start=1&end=4", "", 400, "out of bounds"},
		{"GET", "/api/v1/categories/green/acts?start=x&end=1", "", 400, "start"},
		{"GET", "/api/v1/categories/green/acts?start=1", "", 400, "end"},
		{"DELETE", "/api/v1/acts/x", "", 400, "actId"},
		{"DELETE", "/api/v1/acts/2", "{}", 200, "{}"},
		{"DELETE", "/api/v1/acts/2", "", 400, "2"},
		{"DELETE", "/api/v1/categories/green", "", 200, "{}"},
		{"DELETE", "/api/v1/categories/green", "", 400, "green"},
		{"GET", "/api/v1/acts/count", "", 200, "[0]"},
		{"DELETE", "/api/v1/users/ann", "", 200, "{}"},
		{"DELETE", "/api/v1/users/ann", "", 400, "ann"},
		{"GET", "/api/v1/none", "", 404, ""},
		{"GET", "/api/v1/_count", "", 200, "[COUNTED]"},
		{"DELETE", "/api/v1/_count", "", 200, "{}"},
		{"GET", "/api/v1/_count", "", 200, "[0]"},
	} {
		if strings.HasPrefix(c.path, "/api/") && !strings.HasPrefix(c.path, "/api/v1/_") {
			counted++
		}
		c.want = strings.Replace(c.want, "COUNTED", fmt.Sprint(counted), 1)
		status, body, _ := ask(t, processes[i%2].URL, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.want) || status < 300 && c.path != "/" && body != c.want {
			t.Errorf("%s %s %.60s: %d %.200s, want %d %s", c.method, c.path, c.body, status, body, c.status, c.want)
		}
	}
}

// TestOrder: by the parsed time, newest first; of equal times the latest inserted.
func TestOrder(t *testing.T) {
	s := service(t, t.TempDir())
	ask(t, s.URL, "POST", "/api/v1/users", `{"username":"ann","password":"`+hash+`"}`)
	ask(t, s.URL, "POST", "/api/v1/categories", `["green"]`)
	for id, at := range []string{"01-01-2019:00-00-00", "02-01-2018:00-00-00", "01-01-2019:00-00-00", "01-01-2019:59-59-23"} {
		if status, body, _ := ask(t, s.URL, "POST", "/api/v1/acts", anAct(id, map[string]any{"timestamp": at})); status != 201 {
			t.Fatal(body)
		}
	}
	for query, want := range map[string]string{"": "3 2 0 1", "?start=2&end=3": "2 0", "?start=4&end=4": "1"} {
		_, body, _ := ask(t, s.URL, "GET", "/api/v1/categories/green/acts"+query, "")
		var list []act
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range list {
			got = append(got, fmt.Sprint(a.ID))
			if a.Image != "aGVsbG8=" || a.Category != "green" || a.Username != "ann" {
				t.Errorf("act %+v", a)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", query, got, want)
		}
	}
}

// TestHundredAreFine and one more is too large.
func TestHundredAreFine(t *testing.T) {
	s := service(t, t.TempDir())
	ask(t, s.URL, "POST", "/api/v1/users", `{"username":"ann","password":"`+hash+`"}`)
	ask(t, s.URL, "POST", "/api/v1/categories", `["green"]`)
	for id := range 101 {
		if id == 100 {
			if status, _, _ := ask(t, s.URL, "GET", "/api/v1/categories/green/acts", ""); status != 200 {
				t.Errorf("100 acts: %d", status)
			}
		}
		ask(t, s.URL, "POST", "/api/v1/acts", anAct(id, nil))
	}
	for query, want := range map[string]int{"": 413, "?start=1&end=101": 413, "?start=2&end=101": 200, "?start=1&end=102": 400} {
		if status, _, _ := ask(t, s.URL, "GET", "/api/v1/categories/green/acts"+query, ""); status != want {
			t.Errorf("%q: %d, want %d", query, status, want)
		}
	}
}

// TestCrash: one process answers 500 to everything; the other does not know.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	one, other := service(t, dir), service(t, dir)
	if status, _, _ := ask(t, one.URL, "POST", "/api/v1/_crash", ""); status != 200 {
		t.Fatalf("crash: %d", status)
	}
	for _, path := range []string{"/", "/api/v1/_health", "/api/v1/_crash", "/api/v1/categories", "/none"} {
		for _, method := range []string{"GET", "POST"} {
			if status, _, _ := ask(t, one.URL, method, path, ""); status != 500 {
				t.Errorf("%s %s: %d", method, path, status)
			}
		}
	}
	if status, _, _ := ask(t, other.URL, "GET", "/api/v1/_health", ""); status != 200 {
		t.Errorf("the other: %d", status)
	}
}

// TestCORS is open for reads and writes of the API.
func TestCORS(t *testing.T) {
	s := service(t, t.TempDir())
	status, _, h := ask(t, s.URL, "OPTIONS", "/api/v1/acts", "")
	if status != 204 || h.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "POST") {
		t.Errorf("%d %v", status, h)
	}
}

func FuzzActs(f *testing.F) {
	dir := f.TempDir()
	s := &Service{log: slog.New(slog.DiscardHandler)}
	var err error
	if s.store, err = openStore(f.Context(), dir); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.store.Close() })
	if s.counter, err = openCounter(filepath.Join(dir, "count")); err != nil {
		f.Fatal(err)
	}
	s.mux = s.routes()
	f.Add("POST", "/api/v1/acts", anAct(1, nil))
	f.Add("GET", "/api/v1/categories/a%2Fb/acts", "")
	f.Add("POST", "/api/v1/acts/upvote", "[1e3]")
	f.Fuzz(func(t *testing.T, method, path, body string) {
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
	})
}
