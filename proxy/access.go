package proxy

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// settled counts a request that has been answered, or given up, and logs it if it is
// the sampled one.
func (p *Proxy) settled(t *trip, code int, method, target, peer string) {
	took := time.Since(t.began)
	stats, number := &p.unrouted, 0
	if t.service != nil {
		stats = t.service.own
	}
	if t.answered != nil {
		stats, number = t.answered.stats, t.answered.Number
	}
	stats.answered(code, took)
	if p.cfg.AccessLog > 0 && p.seen.Add(1)%uint64(p.cfg.AccessLog) == 0 {
		name := ""
		if t.service != nil {
			name = t.service.Name
		}
		// The buffer that these point into is used again.
		p.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "request",
			slog.String("service", strings.Clone(name)), slog.Int("number", number), slog.String("method", strings.Clone(method)),
			slog.String("target", strings.Clone(target)), slog.Int("status", code), slog.Duration("took", took), slog.String("peer", peer),
			slog.Uint64("turn", t.turn), slog.String("source", string(t.source)))
	}
}
