package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/agent/pki"
)

// measure adds gauges of what ends, for an alarm long before it does, and returns how to
// take them away. Until this node is in a cluster they are 0.
func (t *trust) measure(r prometheus.Registerer) (remove func(), err error) {
	gauge := func(name, help string, read func(*pki.Credentials) time.Time) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "orch", Subsystem: "trust", Name: name, Help: help}, func() float64 {
			if c := t.live.Get(); c != nil {
				return float64(read(c).Unix())
			}
			return 0
		})
	}
	all := []prometheus.Collector{
		gauge("certificate_end_seconds", "When the certificate of this node ends, in Unix time; it is renewed a month before.", func(c *pki.Credentials) time.Time { return c.Cert.NotAfter }),
		gauge("ca_end_seconds", "When the CA that signed it ends, in Unix time.", func(c *pki.Credentials) time.Time {
			for _, ca := range c.CAs {
				if pki.Digest(ca) == c.Issuer() {
					return ca.NotAfter
				}
			}
			return time.Unix(0, 0)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "orch", Subsystem: "trust", Name: "behind", Help: "1 while this node can not keep its keys up to date."}, func() float64 {
			if _, _, trouble := t.state(); trouble != nil {
				return 1
			}
			return 0
		}),
	}
	remove = func() {
		for _, c := range all {
			r.Unregister(c)
		}
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			remove()
			return nil, err
		}
	}
	return remove, nil
}
