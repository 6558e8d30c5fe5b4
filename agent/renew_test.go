package agent

import (
	"log/slog"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"orch/agent/pki"
)

// TestCertificateThatHasEnded, or that has not begun because it was made by a clock that
// was ahead, is made anew by a node at its start, from its own table and before it has
// spoken to anybody.
func TestCertificateThatHasEnded(t *testing.T) {
	for name, away := range map[string]time.Duration{"ended": -pki.LifeNode - time.Hour, "not begun": 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRealm(t)
				n1, n2 := r.node("n1"), r.node("n2")
				c := n1.live.Get()
				a, _ := r.store.View().Trust.Authority(r.store.View().Trust.Signer)
				ca, err := n1.authority(a)
				if err != nil {
					t.Fatal(err)
				}
				old := *c
				if old.Cert, err = ca.Sign(pki.Identity{Cluster: c.Cluster, Node: "n1"}, c.Key.Public(), time.Now().Add(away), pki.LifeNode); err != nil {
					t.Fatal(err)
				}
				done, err := old.Complete()
				if err != nil {
					t.Fatal(err)
				}
				for _, err := range []error{n1.folder.saveCredentials(done), n1.folder.saveClusterKey(r.key), n1.folder.saveGossipKeys(n1.gossipKeys())} {
					if err != nil {
						t.Fatal(err)
					}
				}
				again := newTrust("n1", n1.folder, r.store.View, slog.New(slog.DiscardHandler))
				if err := again.load(identity{ClusterID: c.Cluster, NodeID: "n1"}); err != nil {
					t.Fatal(err)
				}
				if err := shake(again, n2); err == nil {
					t.Fatal("nobody minds the certificate")
				}
				registry := prometheus.NewRegistry()
				unmeasure, err := again.measure(registry)
				if err != nil {
					t.Fatal(err)
				}
				defer unmeasure()
				if got := gauges(t, registry); got["orch_trust_certificate_end_seconds"] != done.Cert.NotAfter.Unix() || got["orch_trust_ca_end_seconds"] != done.CAs[0].NotAfter.Unix() {
					t.Errorf("metrics: %v", got)
				}
				again.keepUp(time.Now(), func([][]byte) error { return nil })
				if err := shake(again, n2); err != nil {
					t.Error(err)
				}
				if err := shake(n2, again); err != nil {
					t.Error(err)
				}
				if got := gauges(t, registry); got["orch_trust_certificate_end_seconds"] != time.Now().Add(pki.LifeNode).Unix() || got["orch_trust_behind"] != 0 {
					t.Errorf("metrics: %v", got)
				}
				kept, err := n1.folder.credentials(c.Cluster)
				if err != nil || !kept.Cert.Equal(again.live.Get().Cert) {
					t.Errorf("on disk: %v", err)
				}
			})
		})
	}
}

// TestWarningsSaySinceWhen of what ends.
func TestWarningsSaySinceWhen(t *testing.T) {
	r := newRealm(t)
	n := &Node{trust: r.node("n1")}
	cert := n.trust.live.Get().Cert.NotAfter
	cas, err := authorities(r.store.View())
	if err != nil {
		t.Fatal(err)
	}
	ca := cas[0].NotAfter
	for _, c := range []struct {
		now  time.Time
		want map[string]time.Time
	}{
		{cert.Add(-warnCertificate), nil},
		{cert.Add(-warnCertificate + time.Hour), map[string]time.Time{"certificate": cert.Add(-warnCertificate)}},
		{ca.Add(-warnCA + time.Hour), map[string]time.Time{"certificate": cert.Add(-warnCertificate), "CA": ca.Add(-warnCA)}},
	} {
		got := map[string]time.Time{}
		for _, i := range n.impairedKeys(r.store.View(), c.now) {
			got[i.What] = i.Since
		}
		if !maps.EqualFunc(got, c.want, time.Time.Equal) {
			t.Errorf("at %s: %v, want %v", c.now, got, c.want)
		}
	}
}

func gauges(t *testing.T, r *prometheus.Registry) map[string]int64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, f := range families {
		out[f.GetName()] = int64(f.GetMetric()[0].GetGauge().GetValue())
	}
	return out
}
