package agent

import (
	"strings"
	"testing"
	"time"

	"orch/proxy"
)

func TestRequestsNameEveryFault(t *testing.T) {
	for flag, edit := range map[string]func(*Requests){
		"trusted-proxies": func(r *Requests) { r.TrustedProxies = []string{"10.0.0.0/8", "here"} },
		"access-log":      func(r *Requests) { r.AccessLog = -1 },
		"max-connections": func(r *Requests) { r.MaxConns = 0 },
		"max-in-flight":   func(r *Requests) { r.MaxInFlight = 0 },
		"max-queue":       func(r *Requests) { r.MaxQueue = -1 },
		"max-head":        func(r *Requests) { r.MaxHead = 10 },
		"max-fields":      func(r *Requests) { r.MaxFields = 1 },
		"max-target":      func(r *Requests) { r.MaxTarget = r.MaxHead + 1 },
		"min-body-rate":   func(r *Requests) { r.MinBodyRate = 0 },
		"hold":            func(r *Requests) { r.Hold = time.Hour },
		"dial-timeout":    func(r *Requests) { r.DialTimeout = 0 },
		"head-timeout":    func(r *Requests) { r.HeadTimeout = time.Millisecond },
		"body-timeout":    func(r *Requests) { r.BodyTimeout = -1 },
		"idle-timeout":    func(r *Requests) { r.IdleTimeout = 48 * time.Hour },
		"quiet-timeout":   func(r *Requests) { r.QuietTimeout = 0 },
		"gone-after":      func(r *Requests) { r.GoneAfter = 0 },
		"min-body-after":  func(r *Requests) { r.MinBodyAfter = 0 },
		"tls-cert":        func(r *Requests) { r.TLSCert, r.TLSKey = "/nowhere/cert.pem", "/nowhere/key.pem" },
		"tls-key":         func(r *Requests) { r.TLSCert = "requests_test.go" },
		"tls-addr":        func(r *Requests) { r.TLSCert, r.TLSKey, r.TLSAddr = "requests_test.go", "requests_test.go", "443" },
	} {
		c := Default()
		c.NodeID = "n1"
		edit(&c.Requests)
		if err := c.Complete().Validate(); err == nil || !strings.Contains(err.Error(), "--"+flag+" ") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

// TestRequestsReachTheProxy: what is configured is what the proxy is told, and the
// defaults are the proxy's own.
func TestRequestsReachTheProxy(t *testing.T) {
	usual := defaultRequests()
	if d, want := usual.config(), proxy.Default(); d.Hold != 2*time.Second || d.Hold != want.Hold || d.GoneAfter != want.GoneAfter || d.MinBodyAfter != want.MinBodyAfter || d.AccessLog != 0 {
		t.Errorf("by default %+v", d)
	}
	r := defaultRequests()
	r.TrustedProxies = []string{"10.1.2.3/8", "::1"}
	r.MaxConns, r.Hold = 7, time.Second
	p := r.config()
	if len(p.TrustedProxies) != 2 || p.TrustedProxies[0].String() != "10.0.0.0/8" || p.TrustedProxies[1].String() != "::1/128" || p.MaxConns != 7 || p.Hold != time.Second {
		t.Errorf("%+v", p)
	}
}

// TestCertificateThatIsNone: it is found at the start.
func TestCertificateThatIsNone(t *testing.T) {
	r := Requests{TLSAddr: "127.0.0.1:0", TLSCert: "requests_test.go", TLSKey: "requests_test.go"}
	if err := r.probe("127.0.0.1:0"); err == nil || !strings.Contains(err.Error(), "--tls-cert") {
		t.Errorf("%v", err)
	}
}
