package acts

import (
	"cmp"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// maxPhoto is the largest photo by default, in bytes.
const maxPhoto = DefaultMaxPhoto << 20

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opened is one process's worth of the service.
func opened(t testing.TB, c Config) *Service {
	t.Helper()
	c.Logger, c.Serve, c.MaxPhoto = slog.New(slog.DiscardHandler), cmp.Or(c.Serve, ServeAll), cmp.Or(c.MaxPhoto, DefaultMaxPhoto)
	s, err := open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serving serves h until the test ends.
func serving(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server
}

// service serves one process's worth over a folder.
func service(t testing.TB, dir string) *httptest.Server {
	t.Helper()
	return serving(t, opened(t, Config{Data: dir}))
}

func ask(t testing.TB, url, method, path, body string) (int, string, http.Header) {
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

// settled has the user ann and the category green.
func settled(t testing.TB, url string) {
	t.Helper()
	for path, body := range map[string]string{"/api/v1/users": `{"username":"ann","password":"` + hash + `"}`, "/api/v1/categories": `["green"]`} {
		if status, answer, _ := ask(t, url, "POST", path, body); status != 201 {
			t.Fatalf("%s: %d %s", path, status, answer)
		}
	}
}

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
