package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a proxy; they work the same where nobody collects them.
type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	turns     *prometheus.CounterVec
	retries   prometheus.Counter
	ejections prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, p *Proxy) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orch_proxy_requests_total", Help: "Requests answered, by service and status code.",
		}, []string{"service", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "orch_proxy_request_seconds", Help: "Time from the head of a request to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"service"}),
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "orch_proxy_turns_total", Help: "Turns spent, by where they came from: leased, exact or local.",
		}, []string{"service", "source"}),
		retries:   prometheus.NewCounter(prometheus.CounterOpts{Name: "orch_proxy_retries_total", Help: "Requests sent to another container."}),
		ejections: prometheus.NewCounter(prometheus.CounterOpts{Name: "orch_proxy_ejections_total", Help: "Containers passed over here after a failure."}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.requests, m.duration, m.turns, m.retries, m.ejections,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "orch_proxy_in_flight", Help: "Requests in flight to containers."}, func() float64 {
			n := 0
			for _, l := range p.InFlight() {
				n += l.InFlight
			}
			return float64(n)
		}))
	return m
}

func (m *metrics) request(service string, status int, d time.Duration) {
	m.requests.WithLabelValues(service, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(service).Observe(d.Seconds())
}

func (m *metrics) turn(service string, s Source) { m.turns.WithLabelValues(service, string(s)).Inc() }
