package control

import "github.com/prometheus/client_golang/prometheus"

// metrics of the leader; on other nodes they stand still.
type metrics struct {
	leading prometheus.Gauge
	failed  prometheus.Counter
	probes  *prometheus.CounterVec
	actions *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{Name: "orch_control_leading", Help: "1 while this node leads."}),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "orch_control_terms_failed_total", Help: "Terms that a fault of a loop has ended."}),
		probes:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orch_control_probes_total", Help: "Probes of containers, by verdict."}, []string{"verdict"}),
		actions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "orch_control_actions_total", Help: "Commands that the leader's plans asked for, by outcome."}, []string{"command", "outcome"}),
	}
	if r != nil {
		r.MustRegister(m.leading, m.failed, m.probes, m.actions)
	}
	return m
}
