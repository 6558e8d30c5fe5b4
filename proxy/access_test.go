package proxy

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// written keeps lines.
type written struct {
	mu    sync.Mutex
	lines []string
}

func (g *written) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lines = append(g.lines, string(b))
	return len(b), nil
}

func (g *written) all() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.lines...)
}

// TestAccessLog is off by default, says who asked for what and who answered, keeps
// queries to itself, and is a sample where it is asked for one.
func TestAccessLog(t *testing.T) { both(t, testAccessLog) }

func testAccessLog(t *testing.T) {
	for _, c := range []struct{ every, requests, want int }{{0, 5, 0}, {1, 5, 5}, {3, 10, 3}} {
		out := &written{}
		var seen sync.Map // IDs of requests, as the row has them
		p := startWithLog(t, c.every, out, nil, acts(1, backend(t, 1, func(_ http.ResponseWriter, r *http.Request) {
			seen.Store(r.Header.Get("X-Request-Id"), true)
		})))
		for range c.requests {
			do(t, "POST", p.url+"/api/v1/acts?token=s3cr3t", "x")
		}
		p.stop() // the last lines are written by then
		got := out.all()
		if len(got) != c.want {
			t.Fatalf("one of %d: %d lines of %d requests: %q", c.every, len(got), c.requests, got)
		}
		for _, line := range got {
			var x struct {
				Msg, Service, Method, Path, Peer, Source string
				Number, Status                           int
				Took                                     int64
				Turn                                     *uint64
				ID                                       string `json:"request_id"`
			}
			if err := json.Unmarshal([]byte(line), &x); err != nil {
				t.Fatal(err)
			}
			if x.Msg != "request" || x.Service != "acts" || x.Number != 1 || x.Method != "POST" || x.Path != "/api/v1/acts" || x.Status != 200 ||
				x.Took <= 0 || x.Turn == nil || x.Source != "leased" || x.Peer != "127.0.0.1" {
				t.Errorf("%s", line)
			}
			if _, known := seen.Load(x.ID); x.ID == "" || !known {
				t.Errorf("no row has seen this ID: %s", line)
			}
			if strings.Contains(line, "s3cr3t") {
				t.Errorf("the query is logged: %s", line)
			}
		}
	}
}

// hung is a writer that never returns until it is let go.
type hung struct {
	entered, release chan struct{}
	once             sync.Once
}

func (h *hung) Write(b []byte) (int, error) {
	h.once.Do(func() { close(h.entered) })
	<-h.release
	return len(b), nil
}

// TestAccessLogThatHangs keeps no request waiting; what it misses is counted.
func TestAccessLogThatHangs(t *testing.T) {
	h := &hung{entered: make(chan struct{}), release: make(chan struct{})}
	registry := prometheus.NewRegistry()
	p := startWithLog(t, 1, h, registry, acts(1, backend(t, 1, nil)))
	defer close(h.release)
	const more = 50
	for range 1 + accessBuffer + more {
		if resp, _ := do(t, "GET", p.url+"/", ""); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	await(t, h.entered, "a line")
	lines(t, registry, "orch_proxy_access_log_dropped_total 50")
	began := time.Now()
	p.stop()
	if took := time.Since(began); took > 10*accessEnd {
		t.Errorf("it ended after %s", took)
	}
}

func startWithLog(t *testing.T, every int, w io.Writer, registry *prometheus.Registry, table Table) *lab {
	t.Helper()
	cfg := Config{AccessLog: every}
	if registry != nil {
		cfg.Registry = registry
	}
	cfg.Logger = slog.New(slog.NewJSONHandler(w, nil))
	return startLimited(t, cfg, table)
}
