package consensus

import "github.com/prometheus/client_golang/prometheus"

// metrics are gauges read from the node when they are scraped.
type metrics struct {
	registry prometheus.Registerer
	all      []prometheus.Collector
}

func newMetrics(n *Node) *metrics {
	m := &metrics{registry: n.cfg.Registry}
	if m.registry == nil {
		return m
	}
	gauge := func(name, help string, read func() float64) {
		c := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "orch", Subsystem: "raft", Name: name, Help: help}, read)
		if err := m.registry.Register(c); err != nil {
			n.log.Warn("register metric", "name", name, "reason", err)
			return
		}
		m.all = append(m.all, c)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("term", "Newest term this node has seen.", func() float64 { return float64(n.raft.Load().CurrentTerm()) })
	gauge("commit_index", "Newest index known to be committed.", func() float64 { return float64(n.raft.Load().CommitIndex()) })
	gauge("applied_index", "Newest index handed to the state machine.", func() float64 { return float64(n.raft.Load().AppliedIndex()) })
	gauge("leader", "1 while this node leads.", func() float64 { return flag(n.leading.Load()) })
	gauge("fenced", "1 while the disk does not take writes and this node takes no part.", func() float64 { return flag(n.fence.isUp()) })
	gauge("append_p999_seconds", "99.9th percentile of the newest appends to raft.db.", func() float64 { return n.pace.p999().Seconds() })
	gauge("snapshots", "Snapshots in the data folder: two, or three while one is made.", func() float64 { count, _ := snapshotsIn(n.cfg.Dir); return float64(count) })
	gauge("snapshot_bytes", "Size of the snapshots in the data folder.", func() float64 { _, size := snapshotsIn(n.cfg.Dir); return float64(size) })
	gauge("db_bytes", "Size of raft.db, which never shrinks.", func() float64 { return float64(n.Status().DBBytes) })
	return m
}

func (m *metrics) close() {
	for _, c := range m.all {
		m.registry.Unregister(c)
	}
}
