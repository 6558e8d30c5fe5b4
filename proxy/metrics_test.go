package proxy

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"orch/scripts/local"
)

// scraped is what Prometheus would read of a registry.
func scraped(t *testing.T, r *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// lines waits until every line is there: what a request moves is counted behind its answer.
func lines(t *testing.T, r *prometheus.Registry, want ...string) {
	t.Helper()
	var text string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		text = scraped(t, r)
		if !slices.ContainsFunc(want, func(l string) bool { return !strings.Contains(text, "\n"+l+"\n") }) {
			return
		}
	}
	for _, l := range want {
		if !strings.Contains(text, "\n"+l+"\n") {
			t.Errorf("no %q in\n%s", l, text)
		}
	}
}

// TestMetricsCount what happens, each after something that has to move it.
func TestMetricsCount(t *testing.T) { both(t, testMetricsCount) }

func testMetricsCount(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	slow := backend(t, 2, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/held" {
			entered <- struct{}{}
			<-release
		}
	})
	dead := backend(t, 1, nil)
	dead.Addr = local.FreeAddr(t)
	registry := prometheus.NewRegistry()
	p := startLimited(t, Config{Registry: registry}, acts(1, dead, slow))
	for range 4 { // the first turn is row 1's, which is not there: once, then it is passed over
		if resp, body := do(t, "GET", p.url+"/", ""); resp.StatusCode != 200 {
			t.Fatalf("%s %s", resp.Status, body)
		}
	}
	if resp, _ := do(t, "GET", p.url+"/api/v1/_health", ""); resp.StatusCode != 403 {
		t.Errorf("%s", resp.Status)
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		if resp, err := browser.Get(p.url + "/held"); err == nil {
			resp.Body.Close()
		}
	}()
	await(t, entered, "the request")
	lines(t, registry,
		`orch_proxy_requests_total{code="200",number="2",service="acts"} 4`,
		`orch_proxy_requests_total{code="403",number="0",service="acts"} 1`,
		`orch_proxy_in_flight{generation="1",number="2",service="acts"} 1`,
		`orch_proxy_retries_total 1`, `orch_proxy_ejections_total 1`,
		`orch_proxy_request_seconds_count{service="acts"} 5`,
		`orch_proxy_turns_total{service="acts",source="exact"} 0`, `orch_proxy_turns_total{service="acts",source="local"} 0`,
	)
	close(release)
	<-held
	lines(t, registry, `orch_proxy_request_seconds_count{service="acts"} 6`)
	text := scraped(t, registry)
	if strings.Contains(text, "orch_proxy_in_flight{") {
		t.Errorf("something is in flight for ever:\n%s", text)
	}
	for _, moved := range []string{`orch_proxy_turns_total{service="acts",source="leased"} `, `orch_proxy_lease_size{service="acts"} `} {
		if !regexp.MustCompile(regexp.QuoteMeta(moved) + `[1-9]`).MatchString(text) {
			t.Errorf("%s is 0:\n%s", moved, text)
		}
	}
	if !reference {
		lines(t, registry, `orch_proxy_connections_total 1`, `orch_proxy_connections 1`)
	}
}

// TestMetricsNames: dashboards and alarms rely on names, kinds and labels.
func TestMetricsNames(t *testing.T) {
	registry := prometheus.NewRegistry()
	p := startLimited(t, Config{Registry: registry}, acts(1, backend(t, 1, nil)))
	do(t, "GET", p.url+"/", "")
	lines(t, registry, `orch_proxy_requests_total{code="200",number="1",service="acts"} 1`)
	var got []string
	value := regexp.MustCompile(` [^ ]+$`)
	for line := range strings.Lines(scraped(t, registry)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "# HELP") {
			got = append(got, value.ReplaceAllStringFunc(line, func(v string) string {
				if strings.HasPrefix(line, "# TYPE") || strings.HasPrefix(line, "orch_proxy_limit{") {
					return v // kinds, and the limits by default
				}
				return ""
			}))
		}
	}
	golden := filepath.Join("testdata", "metrics.golden")
	text := strings.Join(got, "\n") + "\n"
	want, err := os.ReadFile(golden)
	if os.IsNotExist(err) {
		err = os.WriteFile(golden, []byte(text), 0o644)
		t.Errorf("%s is written anew: look at it", golden)
	}
	if err != nil {
		t.Fatal(err)
	}
	if want != nil && text != string(want) {
		t.Errorf("metrics are\n%swant\n%s(remove %s to write it anew)", text, want, golden)
	}
}
