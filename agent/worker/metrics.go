package worker

import (
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what the worker does.
type metrics struct {
	passes  prometheus.Counter
	actions *prometheus.CounterVec
	present atomic.Int64
	all     []prometheus.Collector
}

func newMetrics(w *Worker) *metrics {
	name := func(n, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "orch", Subsystem: "worker", Name: n, Help: help}
	}
	m := &metrics{
		passes: prometheus.NewCounter(prometheus.CounterOpts(name("passes_total", "Full passes over this node's rows."))),
		actions: prometheus.NewCounterVec(prometheus.CounterOpts(name("actions_total",
			"Operations on rows, by what they were for and how they ended.")), []string{"action", "result"}),
	}
	gauge := func(n, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(name(n, help)), read)
	}
	m.all = []prometheus.Collector{
		m.passes, m.actions,
		gauge("containers", "Containers of this node at the last pass, ended ones too.", func() float64 { return float64(m.present.Load()) }),
		gauge("engine_up", "1 while the container engine answers.", func() float64 {
			if reason, _ := w.Impaired(); reason != "" {
				return 0
			}
			return 1
		}),
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range m.all {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics of the worker: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all {
		r.Unregister(c)
	}
}

func (m *metrics) pass(containers int) {
	m.passes.Inc()
	m.present.Store(int64(containers))
}

func (m *metrics) action(v verb, err error) {
	result := "done"
	if err != nil {
		result = "failed"
	}
	m.actions.WithLabelValues(string(v), result).Inc()
}
