package proxy

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestHTTP2QuietRow: a row may pause in an answer, and not for longer than its limit.
func TestHTTP2QuietRow(t *testing.T) {
	const pause = 200 * time.Millisecond
	registry := prometheus.NewRegistry()
	p, addr := startSecure(t, Config{QuietTimeout: 5 * pause, Registry: registry}, patient(backend(t, 1, func(w http.ResponseWriter, r *http.Request) {
		for range 6 { // in all longer than the limit
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-time.After(pause)
		}
		if r.URL.Path == "/silent" {
			<-r.Context().Done() // until the proxy lets go of it
		}
	})))
	defer p.stop()
	client := http2Client(t)
	for path, whole := range map[string]bool{"/": true, "/silent": false} {
		resp, err := client.Get("https://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "xxxxxx" || (err == nil) != whole {
			t.Errorf("%s: %q, %v", path, b, err)
		}
		resp.Body.Close()
	}
	until(t, "the row is let go", func() bool { return len(p.InFlight()) == 0 })
	lines(t, registry, `orch_proxy_limits_total{limit="quiet_time"} 1`)
}
