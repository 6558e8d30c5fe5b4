package proxy

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// visit is a line of the access log.
type visit struct {
	service, method, path, peer, id string
	number, code                    int
	took                            time.Duration
	turn                            uint64
	source                          Source
}

const (
	// accessBuffer is how many lines may wait for a writer that is slow: a tenth of a
	// second at 10,000 req/s. What comes when it is full is not logged, and counted.
	accessBuffer = 1024
	// accessEnd is how long the last lines may take at the end.
	accessEnd = time.Second
)

// settled counts a request that has been answered, or given up, and logs it if it is
// the sampled one.
func (p *Proxy) settled(t *trip, code int, method, target, peer, id string) {
	took := time.Since(t.began)
	stats, number := &p.unrouted, 0
	if t.service != nil {
		stats = t.service.own
	}
	if t.answered != nil {
		stats, number = t.answered.stats, t.answered.Number
	}
	stats.answered(code, took)
	if p.cfg.AccessLog <= 0 || p.seen.Add(1)%uint64(p.cfg.AccessLog) != 0 {
		return
	}
	// A query may hold what is nobody's business: tokens, names, words searched for.
	path, _, _ := strings.Cut(target, "?")
	// The buffer that these point into is used again.
	v := visit{method: strings.Clone(method), path: strings.Clone(path), peer: peer, id: strings.Clone(id), number: number, code: code, took: took, turn: t.turn, source: t.source}
	if t.service != nil {
		v.service = strings.Clone(t.service.Name)
	}
	select {
	case p.visits <- v:
	default:
		p.metrics.unlogged.Add(1)
	}
}

// logVisits writes the access log beside the requests, so that a writer that hangs keeps
// none of them waiting. The function that it returns ends that, after the lines that wait.
func (p *Proxy) logVisits() (end func()) {
	if p.cfg.AccessLog <= 0 {
		return func() {}
	}
	ended, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case v := <-p.visits:
				v.log(p.cfg.Logger)
				continue
			default:
			}
			select {
			case v := <-p.visits:
				v.log(p.cfg.Logger)
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		select {
		case <-ended:
		case <-time.After(accessEnd): // the writer hangs; it keeps one goroutine and nothing else
		}
	}
}

func (v visit) log(l *slog.Logger) {
	l.LogAttrs(context.Background(), slog.LevelInfo, "request",
		slog.String("service", v.service), slog.Int("number", v.number), slog.String("method", v.method), slog.String("path", v.path),
		slog.Int("status", v.code), slog.Duration("took", v.took), slog.String("peer", v.peer), slog.Uint64("turn", v.turn), slog.String("source", string(v.source)), slog.String("request_id", v.id))
}
