package acts

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics of one process, for Prometheus.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	inFlight prometheus.Gauge

	slowReader time.Duration
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "acts", Name: "requests_total", Help: "Requests by method, route and code."}, []string{"method", "route", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "acts", Name: "request_duration_seconds", Help: "Time to the end of the answer, by route.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"route"}),
		slowReader: slowReader,
		inFlight:   prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "acts", Name: "requests_in_flight", Help: "Requests being answered."}),
	}
	m.registry.MustRegister(m.requests, m.took, m.inFlight, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// around counts one request of a route; a method that HTTP does not know is "other",
// so that nobody can make series without end.
func (m *metrics) around(route string, w http.ResponseWriter, r *http.Request, f func(*statusWriter)) {
	method := r.Method
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodOptions, http.MethodPut, http.MethodPatch:
	default:
		method = "other"
	}
	begin, x := time.Now(), &statusWriter{ResponseWriter: w, status: http.StatusOK, patience: m.slowReader}
	x.extend()
	m.inFlight.Inc()
	defer func() {
		m.inFlight.Dec()
		m.requests.WithLabelValues(method, route, strconv.Itoa(x.status)).Inc()
		m.took.WithLabelValues(route).Observe(time.Since(begin).Seconds())
	}()
	f(x)
}

const (
	// slowReader is how long a client may take for what is written at once, 32 KiB
	// at most.
	slowReader = time.Minute
	// extendAfter is how old a deadline may be that a write goes on with.
	extendAfter = time.Second
)

// statusWriter remembers the status, and cuts off who does not read.
type statusWriter struct {
	http.ResponseWriter
	status   int
	began    bool // the answer: its status can not be another one any more
	patience time.Duration
	extended time.Time
}

// extend gives the client time for the next write.
func (w *statusWriter) extend() {
	if now := time.Now(); now.Sub(w.extended) > min(extendAfter, w.patience/2) {
		w.extended = now
		http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(w.patience)) // a recorder in a test has none
	}
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.extend()
	w.began = true
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) WriteHeader(status int) {
	w.extend()
	w.status, w.began = status, true
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (m *metrics) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
