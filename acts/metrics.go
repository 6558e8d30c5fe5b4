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
	// thumbnails counts the work that they are, also where it came to nothing.
	thumbnails prometheus.Counter

	slowReader time.Duration
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "acts", Name: "requests_total", Help: "Requests by method, route and code; 499 where the client left or read too slowly, 599 where the answer broke off here."}, []string{"method", "route", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "acts", Name: "request_duration_seconds", Help: "Time to the end of the answer, by route.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"route"}),
		slowReader: slowReader,
		inFlight:   prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "acts", Name: "requests_in_flight", Help: "Requests being answered."}),
		thumbnails: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "acts", Name: "thumbnails_total", Help: "Photos read and worked through for a thumbnail, those that gave none too."}),
	}
	m.registry.MustRegister(m.requests, m.took, m.inFlight, m.thumbnails, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
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
		e := recover()
		m.inFlight.Dec()
		m.requests.WithLabelValues(method, route, strconv.Itoa(x.code(e != nil, r))).Inc()
		m.took.WithLabelValues(route).Observe(time.Since(begin).Seconds())
		if e != nil { // the server ends the connection
			panic(e)
		}
	}()
	f(x)
}

const (
	// codeGone is counted where a client left or read too slowly, as nginx does.
	codeGone = 499
	// codeCut is counted where an answer had begun and broke off by a fault of ours:
	// it counts among those of 5xx, whatever its status line said.
	codeCut = 599
)

// code is what a request is counted under; cut: its handler gave it up.
func (w *statusWriter) code(cut bool, r *http.Request) int {
	switch {
	case w.lost, (cut || w.status >= 500) && r.Context().Err() != nil: // nobody reads that 500
		return codeGone
	case cut:
		return codeCut
	}
	return w.status
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
	lost     bool // a part of it did not go out: the client is gone, or too slow
	patience time.Duration
	extended time.Time
}

// begun says whether some of an answer is out; what fails later can only break it off.
func begun(w http.ResponseWriter) bool {
	x, ok := w.(*statusWriter)
	return ok && x.began
}

// lost says whether its client does not take it any more.
func lost(w http.ResponseWriter) bool {
	x, ok := w.(*statusWriter)
	return ok && x.lost
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
	n, err := w.ResponseWriter.Write(b)
	w.lost = w.lost || err != nil
	return n, err
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
