package proxy

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a proxy; they are read when somebody collects them.
type metrics struct {
	proxy *Proxy

	retries   atomic.Uint64
	ejections atomic.Uint64
	refused   [limits]atomic.Uint64
	conns     atomic.Int64
	accepted  atomic.Uint64
	unlogged  atomic.Uint64

	requests, seconds, turns, lease, inFlight, waiting             *prometheus.Desc
	retried, ejectedDesc, refusedDesc, open, taken, bound, dropped *prometheus.Desc
}

func newMetrics(p *Proxy) *metrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("orch_proxy_"+name, help, labels, nil)
	}
	return &metrics{
		proxy:       p,
		requests:    d("requests_total", "Requests answered, by service, row (0: the proxy itself) and status code (499: the client left before).", "service", "number", "code"),
		seconds:     d("request_seconds", "Time from the head of a request to the end of its answer.", "service"),
		turns:       d("turns_total", "Turns spent, by where they came from: leased, exact or local.", "service", "source"),
		lease:       d("lease_size", "Turns in the last lease taken.", "service"),
		inFlight:    d("in_flight", "Requests in flight to a row.", "service", "number", "generation"),
		waiting:     d("waiting", "Requests that wait for a row with room.", "service"),
		retried:     d("retries_total", "Requests sent again: to another row, or to the same one on a new connection."),
		ejectedDesc: d("ejections_total", "Rows passed over here after a failure."),
		refusedDesc: d("limits_total", "Requests and connections turned away, by the limit they met.", "limit"),
		open:        d("connections", "Client connections open."),
		taken:       d("connections_total", "Client connections accepted."),
		bound:       d("limit", "Limits in force: bytes, seconds, or how many.", "limit"),
		dropped:     d("access_log_dropped_total", "Lines of the access log that its writer was too slow for."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.requests, m.seconds, m.turns, m.lease, m.inFlight, m.waiting, m.retried, m.ejectedDesc, m.refusedDesc, m.open, m.taken, m.bound, m.dropped} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(c chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	p := m.proxy
	p.setting.Lock()
	times := map[string]*[timeBuckets]uint64{}
	nanos := map[string]uint64{}
	for k, s := range p.stats {
		if times[k.service] == nil {
			times[k.service] = &[timeBuckets]uint64{}
		}
		for i := range s.codes {
			if n := s.codes[i].Load(); n > 0 {
				count(m.requests, n, k.service, strconv.Itoa(k.number), strconv.Itoa(i+100))
			}
		}
		for i := range s.times {
			times[k.service][i] += s.times[i].Load()
		}
		nanos[k.service] += s.nanos.Load()
	}
	for i := range p.unrouted.codes {
		if n := p.unrouted.codes[i].Load(); n > 0 {
			count(m.requests, n, "", "0", strconv.Itoa(i+100))
		}
	}
	for name, t := range p.turns {
		for _, s := range sources {
			count(m.turns, t.spent(s), name, string(s))
		}
		gauge(m.lease, float64(t.leaseSize.Load()), name)
	}
	for name, s := range p.routing.Load().services {
		gauge(m.waiting, float64(s.line.waiting.Load()), name)
	}
	p.setting.Unlock()
	for _, l := range p.InFlight() {
		gauge(m.inFlight, float64(l.InFlight), l.Service, strconv.Itoa(l.Number), strconv.FormatUint(l.Generation, 10))
	}
	for name, b := range times {
		buckets := map[float64]uint64{}
		sum := uint64(0)
		for i, n := range b {
			sum += n
			if i < timeBuckets-1 {
				buckets[time.Duration(1<<(i+firstBucket)).Seconds()] = sum
			}
		}
		c <- prometheus.MustNewConstHistogram(m.seconds, sum, time.Duration(nanos[name]).Seconds(), buckets, name)
	}
	count(m.retried, m.retries.Load())
	count(m.ejectedDesc, m.ejections.Load())
	for i := noLimit + 1; i < limits; i++ {
		count(m.refusedDesc, m.refused[i].Load(), limitNames[i])
	}
	for name, v := range m.proxy.cfg.set() {
		gauge(m.bound, v, name)
	}
	gauge(m.open, float64(m.conns.Load()))
	count(m.taken, m.accepted.Load())
	count(m.dropped, m.unlogged.Load())
}

// limit is one that a request or a connection may meet.
type limit uint8

const (
	noLimit limit = iota
	limitConns
	limitRow
	limitQueue
	limitHold
	limitHead
	limitFields
	limitTarget
	limitBody
	limitHeadTime
	limitBodyTime
	limitIdle
	limitAnswer
	limitQuiet
	limitGone
	limitDial
	limits
)

var limitNames = [limits]string{"", "connections", "in_flight", "queue", "hold", "head", "fields", "target", "body", "head_time", "body_time", "idle_time", "answer_time", "quiet_time", "gone_time", "dial_time"}

// met counts a limit that was met.
func (m *metrics) met(l limit) {
	if l != noLimit {
		m.refused[l].Add(1)
	}
}

// set are the limits of the configuration, by name.
func (c *Config) set() map[string]float64 {
	return map[string]float64{
		"connections": float64(c.MaxConns), "in_flight": float64(c.MaxInFlight), "queue": float64(c.MaxQueue),
		"head": float64(c.MaxHead), "fields": float64(c.MaxFields), "target": float64(c.MaxTarget), "body_rate": float64(c.MinBodyRate),
		"head_time": c.HeadTimeout.Seconds(), "body_time": c.BodyTimeout.Seconds(), "idle_time": c.IdleTimeout.Seconds(),
		"quiet_time": c.QuietTimeout.Seconds(), "gone_time": c.GoneAfter.Seconds(), "body_rate_after": c.MinBodyAfter.Seconds(), "dial_time": c.DialTimeout.Seconds(), "hold": c.Hold.Seconds(), "drain_time": c.DrainTimeout.Seconds(),
	}
}
