package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"orch/proxy"
)

// Requests is how a node serves requests. Fields bear the names of orchd's flags;
// docs/operations.md says what each is for.
type Requests struct {
	TLSAddr        string   // tls-addr: host:port, public; empty for none
	TLSCert        string   // tls-cert: PEM file, read again when it changes
	TLSKey         string   // tls-key: PEM file, read again when it changes
	TrustedProxies []string // trusted-proxies: addresses and prefixes
	AccessLog      int      // access-log: one of so many requests is logged; 0 is none

	MaxConns     int           // max-connections
	MaxInFlight  int           // max-in-flight, of a container, from this node
	MaxQueue     int           // max-queue, of a service
	MaxHead      int           // max-head, bytes
	MaxFields    int           // max-fields
	MaxTarget    int           // max-target, bytes
	MinBodyRate  int           // min-body-rate, bytes a second
	Hold         time.Duration // hold
	DialTimeout  time.Duration // dial-timeout
	HeadTimeout  time.Duration // head-timeout
	BodyTimeout  time.Duration // body-timeout
	IdleTimeout  time.Duration // idle-timeout
	QuietTimeout time.Duration // quiet-timeout
	GoneAfter    time.Duration // gone-after
	MinBodyAfter time.Duration // min-body-after
}

// defaultRequests are the proxy's own defaults.
func defaultRequests() Requests {
	p := proxy.Default()
	return Requests{
		MaxConns: p.MaxConns, MaxInFlight: p.MaxInFlight, MaxQueue: p.MaxQueue, MaxHead: p.MaxHead, MaxFields: p.MaxFields, MaxTarget: p.MaxTarget, MinBodyRate: p.MinBodyRate,
		Hold: p.Hold, DialTimeout: p.DialTimeout, HeadTimeout: p.HeadTimeout, BodyTimeout: p.BodyTimeout, IdleTimeout: p.IdleTimeout, QuietTimeout: p.QuietTimeout, GoneAfter: p.GoneAfter, MinBodyAfter: p.MinBodyAfter,
	}
}

// config is what the proxy is told.
func (r *Requests) config() proxy.Config {
	trusted, err := r.trusted()
	if err != nil {
		panic(err) // Validate has looked
	}
	return proxy.Config{
		TrustedProxies: trusted, AccessLog: r.AccessLog, DrainTimeout: drainTimeout,
		MaxConns: r.MaxConns, MaxInFlight: r.MaxInFlight, MaxQueue: r.MaxQueue, MaxHead: r.MaxHead, MaxFields: r.MaxFields, MaxTarget: r.MaxTarget, MinBodyRate: r.MinBodyRate,
		Hold: r.Hold, DialTimeout: r.DialTimeout, HeadTimeout: r.HeadTimeout, BodyTimeout: r.BodyTimeout, IdleTimeout: r.IdleTimeout, QuietTimeout: r.QuietTimeout, GoneAfter: r.GoneAfter, MinBodyAfter: r.MinBodyAfter,
	}
}

// trusted reads addresses and prefixes.
func (r *Requests) trusted() (out []netip.Prefix, err error) {
	for _, s := range r.TrustedProxies {
		p, perr := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			p, perr = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if perr != nil {
			err = errors.Join(err, fmt.Errorf("%q", s))
			continue
		}
		out = append(out, p.Masked())
	}
	return out, err
}

// validate says everything that is wrong.
func (r *Requests) validate(fault func(flag, value, want string)) {
	if _, err := r.trusted(); err != nil {
		fault("trusted-proxies", err.Error(), "write addresses or prefixes, for example 10.0.0.0/8,192.0.2.1")
	}
	whole := func(flag string, v, least, most int) {
		if v < least || v > most {
			fault(flag, strconv.Itoa(v), fmt.Sprintf("choose %d to %d", least, most))
		}
	}
	whole("access-log", r.AccessLog, 0, 1_000_000_000)
	whole("max-connections", r.MaxConns, 1, 1_000_000)
	whole("max-in-flight", r.MaxInFlight, 1, 1_000_000)
	whole("max-queue", r.MaxQueue, 1, 1_000_000)
	whole("max-head", r.MaxHead, 1<<10, 1<<20)
	whole("max-fields", r.MaxFields, 8, 10_000)
	whole("max-target", r.MaxTarget, 256, 1<<20)
	whole("min-body-rate", r.MinBodyRate, 1, 1<<30)
	if r.MaxTarget > r.MaxHead {
		fault("max-target", strconv.Itoa(r.MaxTarget), fmt.Sprintf("a target is part of a head: choose at most --max-head (%d)", r.MaxHead))
	}
	span := func(flag string, v, least, most time.Duration) {
		if v < least || v > most {
			fault(flag, v.String(), fmt.Sprintf("choose %v to %v", least, most))
		}
	}
	span("hold", r.Hold, time.Millisecond, time.Minute)
	span("dial-timeout", r.DialTimeout, 10*time.Millisecond, time.Minute)
	span("head-timeout", r.HeadTimeout, 100*time.Millisecond, 10*time.Minute)
	span("body-timeout", r.BodyTimeout, 100*time.Millisecond, time.Hour)
	span("idle-timeout", r.IdleTimeout, 100*time.Millisecond, time.Hour)
	span("quiet-timeout", r.QuietTimeout, time.Second, 24*time.Hour)
	span("gone-after", r.GoneAfter, 100*time.Millisecond, time.Hour)
	span("min-body-after", r.MinBodyAfter, time.Second, time.Hour)
	r.validateTLS(fault)
}

func (r *Requests) validateTLS(fault func(flag, value, want string)) {
	if r.TLSCert == "" && r.TLSKey == "" && r.TLSAddr == "" {
		return
	}
	for _, f := range []struct{ flag, path string }{{"tls-cert", r.TLSCert}, {"tls-key", r.TLSKey}} {
		if file, err := os.Open(f.path); err != nil {
			fault(f.flag, f.path, "name a PEM file that orchd can read; TLS needs --tls-cert and --tls-key")
		} else {
			file.Close()
		}
	}
	if host, port, err := net.SplitHostPort(r.TLSAddr); err != nil || host != "" && net.ParseIP(host) == nil || !isPort(port) {
		fault("tls-addr", r.TLSAddr, "write it as IP:PORT")
	}
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 0 && n <= 65535
}

// probe says now, not at the first request, that a port is not to be had, or that the
// certificate and its key do not belong together.
func (r *Requests) probe(plain string) error {
	public, err := r.listen(context.Background(), plain)
	for _, l := range public {
		err = errors.Join(err, l.Close())
	}
	return err
}

// listen opens the public ports.
func (r *Requests) listen(ctx context.Context, plain string) ([]net.Listener, error) {
	l, err := proxy.Listen(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("--proxy-addr: %w; stop what uses it, or choose another address", err)
	}
	if r.TLSCert == "" {
		return []net.Listener{l}, nil
	}
	t, err := proxy.Listen(ctx, r.TLSAddr)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("--tls-addr: %w; stop what uses it, or choose another address", err)
	}
	secure, err := proxy.Secure(t, r.TLSCert, r.TLSKey)
	if err != nil {
		l.Close()
		t.Close()
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return []net.Listener{l, secure}, nil
}
