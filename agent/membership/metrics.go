package membership

import "github.com/prometheus/client_golang/prometheus"

// registerMetrics adds a gauge for each status and returns how to take them
// away.
func (l *List) registerMetrics() (remove func()) {
	r := l.cfg.Registry
	if r == nil {
		return func() {}
	}
	var all []prometheus.Collector
	for _, status := range []string{Alive, Suspect, Dead, Left} {
		c := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "orch", Subsystem: "gossip", Name: "members", Help: "Nodes by what gossip says of them.",
			ConstLabels: prometheus.Labels{"status": status},
		}, func() float64 {
			n := 0
			for _, m := range l.Members() {
				if m.Status == status {
					n++
				}
			}
			return float64(n)
		})
		if err := r.Register(c); err != nil {
			l.log.Warn("register metric", "name", "members", "reason", err)
			continue
		}
		all = append(all, c)
	}
	return func() {
		for _, c := range all {
			r.Unregister(c)
		}
	}
}
